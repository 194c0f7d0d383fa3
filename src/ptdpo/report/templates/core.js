
"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const runs = page.runs;
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// Everything from a run becomes text, never markup.
function make(tag, content, attributes) {
  const element = document.createElement(tag);
  for (const part of [].concat(content === undefined || content === null ? [] : content)) {
    element.append(part instanceof Node ? part : document.createTextNode(String(part)));
  }
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const colour = (number) => `var(--c${number % 6})`;

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

// Control characters are shown, not obeyed.
function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (sign) => {
    const code = sign.charCodeAt(0);
    return code < 32 ? String.fromCharCode(0x2400 + code) : "\ufffd";
  });
}

function legend(names, colours) {
  return make("p", names.map((name, number) => {
    const swatch = make("span", "", { class: "swatch" });
    swatch.style.background = colours[number];
    return make("span", [swatch, name]);
  }), { class: "legend" });
}
