// Pictures: a button over each opens it in a dialog as large as the window; Escape closes it, arrows go on to the next.

class Viewer {
  constructor() {
    this.caption = element("p", { id: "viewer-caption", "aria-live": "polite" });
    this.stage = element("div", { class: "stage" });
    this.place = element("span", { class: "soft" });
    this.back = element("button", { type: "button", click: () => this.go(-1) }, "Previous");
    this.next = element("button", { type: "button", click: () => this.go(1) }, "Next");
    const close = element("button", { type: "button", autofocus: "", click: () => this.dialog.close() }, "Close");
    const bar = element("div", { class: "bar" }, this.back, this.next, this.place, close);
    const listening = { close: () => this.leave(), keydown: (event) => this.press(event) };
    const named = { class: "viewer", "aria-labelledby": "viewer-caption" };
    this.dialog = element("dialog", { ...named, ...listening }, bar, this.stage, this.caption);
    document.body.append(this.dialog);
  }

  /** Show a picture; those beside it are the ones to go on to. */
  open(picture, opener) {
    this.opener = opener;
    const group = picture.closest(".panels, .figures");
    this.pictures = group ? [...group.querySelectorAll(PICTURES)] : [picture];
    this.show(this.pictures.indexOf(picture));
    this.dialog.showModal();
  }

  show(place) {
    this.shown = place;
    const copy = this.pictures[place].cloneNode(true);
    // What the copy refers to by id stays the original's: an id must be there once.
    for (const one of [copy, ...copy.querySelectorAll("[id]")]) one.removeAttribute("id");
    this.stage.replaceChildren(copy);
    this.caption.textContent = copy.getAttribute("aria-label");
    const several = this.pictures.length > 1;
    this.back.hidden = this.next.hidden = this.place.hidden = !several;
    this.place.textContent = `${place + 1} of ${this.pictures.length}`;
  }

  go(step) {
    this.show((this.shown + step + this.pictures.length) % this.pictures.length);
  }

  press(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && this.pictures.length > 1) this.go(step);
  }

  leave() {
    this.stage.replaceChildren();
    this.opener.focus();
  }
}

const PICTURES = ".panels svg[role=img], figure svg[role=img]";
let viewer = null;

/** Lay a button over a picture; the picture keeps its own name. */
function addZoom(picture) {
  const open = (event) => (viewer ??= new Viewer()).open(picture, event.currentTarget);
  const name = `Enlarge: ${picture.getAttribute("aria-label")}`;
  const frame = element("div", { class: "zoomable" });
  picture.replaceWith(frame);
  frame.append(picture, element("button", { type: "button", class: "zoom", "aria-label": name, click: open }));
}

document.querySelectorAll(PICTURES).forEach(addZoom);
