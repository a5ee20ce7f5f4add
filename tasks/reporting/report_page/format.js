// Numbers as text, and elements from values. Text always enters as text nodes, never as markup.

const THIN = "\u202f";

function percent(value) {
  if (!Number.isFinite(value)) return "–";
  const number = value * 100;
  const digits = number === 0 || number >= 10 ? 0 : number >= 1 ? 1 : 2;
  return String(Number(number.toFixed(digits))) + THIN + "%";
}

function fixed(value, digits = 2) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

function signed(value, digits = 2) {
  return fixed(value, digits).replace("-", "−");
}

function significantDigits(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return scientific(Math.log10(size), value < 0 ? "−" : "");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function scientific(log10, sign = "") {
  const exponent = Math.floor(log10 + 1e-9);
  const mantissa = 10 ** (log10 - exponent);
  const power = [...String(exponent)].map((digit) => SUPERSCRIPTS[digit]).join("");
  return `${sign}${mantissa.toFixed(1)}·10${power}`;
}

function probability(log10) {
  if (!Number.isFinite(log10)) return "–";
  return log10 > -2 ? fixed(10 ** log10, 3) : scientific(log10);
}

// For p-values by permutation, which the page holds to three digits.
function shortP(value) {
  if (!Number.isFinite(value)) return "–";
  return value < 0.0005 ? "< 0.001" : fixed(value, 3);
}

function counted(value) {
  return value.toLocaleString("en");
}

function shortened(text, most) {
  if (text.length <= most) return text;
  const half = (most - 1) >> 1;
  return `${text.slice(0, half)}…${text.slice(text.length - (most - 1 - half))}`;
}

// Names of modules are told apart by their ends and numbers: all parts but the last two give way to
// their first letters where the name is too long ("e.l.el_11.mlp.3"), then all but the last.
function layerLabel(name, most) {
  const parts = name.split(".");
  for (const kept of [parts.length, 2, 1]) {
    const text = parts.map((part, i) => (i < parts.length - kept ? initials(part) : part)).join(".");
    if (text.length <= most) return text;
  }
  const text = parts.map((part, i) => (i < parts.length - 1 ? initials(part) : part)).join(".");
  return `…${text.slice(text.length - most + 1)}`;
}

function initials(part) {
  return part.replace(/\p{L}+/gu, (word) => word[0]).replace(/[_-](?!\p{N})/gu, "");
}

function unitLabel(name, most) {
  const cut = name.lastIndexOf("/");
  return layerLabel(name.slice(0, cut), most - (name.length - cut)) + name.slice(cut);
}

// May wrap after its dots.
function wrappingName(name) {
  return name.split(/(?<=[._/])/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}
