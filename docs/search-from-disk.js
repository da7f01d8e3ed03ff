/* A page from a disk may start no worker. The search's then runs in a hidden frame, which is spoken to in the same way. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.ready = new Promise(done => {
        const script = inside.document.createElement("script")
        script.src = address
        script.onload = done
        inside.document.body.appendChild(script)
      })
      this.postMessage = data => this.ready.then(() => inside.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {}
  }
}
