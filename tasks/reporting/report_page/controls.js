// What the sections share: the state, the controls that change it, the legend and the tooltip.

const state = {
  view: "0",
  effect: "eta2",
  order: "class",
  kind: "all",
  metric: "eta2_mean",
  focus: -1,
  pinned: -1,
};
const listeners = [];

function onFocus(listener) {
  listeners.push(listener);
}

function setFocus(index) {
  if (state.focus === index) return;
  state.focus = index;
  for (const chip of document.querySelectorAll(".chip")) {
    const own = Number(chip.dataset.class);
    chip.setAttribute("aria-pressed", String(own === state.pinned));
    chip.classList.toggle("faded", index >= 0 && own !== index);
  }
  // One redraw per frame, however quickly the pointer passes over the legend.
  requestAnimationFrame(() => listeners.forEach((listener) => listener()));
}

function legend(container) {
  const chips = classes.map((name, index) =>
    el(
      "button",
      {
        class: "chip",
        type: "button",
        "data-class": index,
        "aria-pressed": "false",
        title: name,
        onpointerenter: () => setFocus(index),
        onpointerleave: () => setFocus(state.pinned),
        onclick: () => {
          state.pinned = state.pinned === index ? -1 : index;
          state.focus = NaN;
          setFocus(state.pinned);
        },
      },
      el("i", { style: { background: colours[index] } }),
      shortened(name, 24),
    ),
  );
  container.classList.toggle("many", classes.length > 20);
  container.append(...chips);
}

function segmented(label, options, selected, choose) {
  const buttons = options.map(([value, text]) =>
    el(
      "button",
      {
        type: "button",
        "aria-pressed": String(value === selected),
        onclick: () => {
          buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i][0] === value)));
          choose(value);
        },
      },
      text,
    ),
  );
  return el("div", { class: "segmented", role: "group", "aria-label": label }, el("span", {}, label), ...buttons);
}

function selection(label, options, selected, choose) {
  const choices = options.map(([value, text]) => el("option", { value, selected: value === selected }, text));
  const select = el("select", { onchange: (event) => choose(event.target.value) }, ...choices);
  return el("label", { class: "selection" }, el("span", {}, label), select);
}

// One choice for the whole page, shown in two places.
const kindListeners = [];

function kindSelection() {
  const kinds = [...new Set(main.layers.map((layer) => layer.kind))];
  if (kinds.length < 2) return "";
  const options = [["all", "all kinds"], ...kinds.map((kind) => [kind, `only ${kind}`])];
  const control = selection("layers", options, state.kind, (kind) => {
    state.kind = kind;
    for (const select of document.querySelectorAll(".kind select")) select.value = kind;
    kindListeners.forEach((listener) => listener());
  });
  control.classList.add("kind");
  return control;
}

function swatch(index) {
  return el("i", { class: "swatch", style: { background: classColour(index) } });
}

const tip = byId("tip");

function showTip(content, x, y) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 18 + width < innerWidth ? x + 18 : Math.max(6, x - 18 - width);
  const top = Math.max(6, Math.min(y - height / 3, innerHeight - height - 6));
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}

function hideTip() {
  tip.hidden = true;
}

function fitCanvas(canvas, width, height) {
  const scale = Math.min(devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}

addEventListener("scroll", hideTip, { passive: true });
