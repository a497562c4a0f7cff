"use strict";
// Each part of the page names in data-show what it shows, as "n0|n1 d0 c2 l3": it is hidden where of one of these
// words no alternative is ticked. A frame around parts, data-frame, is hidden where all its parts are.
const form = document.getElementById("filters");
const boxes = [...form.querySelectorAll("input")];
const parts = [...document.querySelectorAll("[data-show]")];
const frames = [...document.querySelectorAll("[data-frame]")];
function filter() {
  const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
  for (const part of parts) {
    const words = part.getAttribute("data-show").split(" ");
    part.toggleAttribute("hidden", words.some((word) => word.split("|").every((tag) => off.has(tag))));
  }
  for (const frame of frames) frame.toggleAttribute("hidden", !frame.querySelector("[data-show]:not([hidden])"));
}
form.addEventListener("change", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.hidden = false;
filter();
