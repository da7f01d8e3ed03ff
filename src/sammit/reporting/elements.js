"use strict";
// What every part of the script uses. The page is complete without any of it: it adds controls to what is there.

/** An element with attributes (a function listens to the event of that name) and children, nodes or texts. */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(one, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") one.addEventListener(name, value);
    else one.setAttribute(name, value);
  }
  one.append(...children);
  return one;
}

/** Say something to those who cannot see that the page has changed. */
function tell(text) {
  document.getElementById("told").textContent = text;
}
