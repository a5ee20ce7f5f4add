// A chart over depth: one line per series, its axes, its key, and the layer under the pointer.

const STROKES = ["#ffc15e", "#93a4ba", "#7fd0c0", "#c9a4f2"];
const DASHES = [null, "5 4", "2 4", "8 3 2 3"];
const NAME_WIDTH = 6.4;
const NAME_TURN = 48;

// Round steps, of which four to six reach the largest value.
function tickStep(span) {
  const size = 10 ** Math.floor(Math.log10(span / 4));
  return [1, 2, 2.5, 5, 10].map((part) => part * size).find((step) => span / step <= 5.5);
}

// Draws { layers, series: [{ label, values, style? }], text, title, floor, chance, height } and returns
// whether there was anything to draw. `tipOf(i)` is shown beside the pointer.
function depthChart(holder, { layers, series, text, title, floor = 0, chance = NaN, heights = [210, 290], tipOf }) {
  const known = series.flatMap(({ values }) => values).filter(Number.isFinite);
  if (!known.length) {
    holder.replaceChildren(el("p", { class: "notice" }, "The tables hold no values of this measure (classes that cannot be compared, or not computed)."));
    return false;
  }
  const span = Math.max(Math.max(...known) - floor, 1e-4);
  const step = tickStep(span);
  const steps = Math.ceil(span / step - 1e-9);
  const top = floor + steps * step;
  const width = Math.max(280, holder.clientWidth);
  const names = axisNames(layers, width);
  const left = Math.max(46, ...names.map((name, i) => (name ? name.length * NAME_WIDTH * Math.cos((NAME_TURN * Math.PI) / 180) - ((i + 0.5) * (width - 60)) / layers.length : 0)));
  const box = { left: Math.ceil(left), right: 14, top: 14, height: heights[width < 560 ? 0 : 1] };
  const foot = 20 + Math.max(...names.map((name) => name.length)) * NAME_WIDTH * Math.sin((NAME_TURN * Math.PI) / 180);
  const x = (i) => box.left + ((i + 0.5) * (width - box.left - box.right)) / layers.length;
  const y = (value) => box.top + box.height * (1 - (value - floor) / (top - floor));
  const chart = { layers, series, names, text, width, box, x, y, floor, top, step, steps };
  const height = Math.ceil(box.top + box.height + foot);
  const node = svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img", "aria-label": depthLabel(chart, title) },
    ...axes(chart),
    ...chanceLine(chart, chance),
    between(chart),
    ...series.map(({ values, style }, s) => line(chart, values, style ?? s)).reverse(),
  );
  holder.replaceChildren(seriesLegend(chart, title, chance), node);
  followPointer(node, chart, tipOf);
  return true;
}

function depthLabel({ layers, series, text }, title) {
  const parts = series.map(({ label, values }) => `${label}: ${layers.map((layer, i) => `${layer.layer} ${text(values[i])}`).join(", ")}`);
  return `${title}, per layer. ${parts.join(". ")}`;
}

// As many names as do not touch one another, the last layer's always; "" for the others.
function axisNames(layers, width) {
  const every = Math.ceil((17 * layers.length) / (width - 60));
  const most = width < 560 ? 14 : 22;
  return layers.map((layer, i) => ((layers.length - 1 - i) % every === 0 ? layerLabel(layer.layer, most) : ""));
}

function axes({ layers, names, text, width, box, x, y, floor, step, steps }) {
  const ticks = Array.from({ length: steps + 1 }, (_, i) => floor + step * i);
  const lines = ticks.map((tick) => svg("line", { class: "rule", x1: box.left, x2: width - box.right, y1: y(tick), y2: y(tick) }));
  const texts = ticks.map((tick) => svg("text", { class: "tick", x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, text(tick)));
  const written = layers.map((layer, i) => {
    if (!names[i]) return null;
    const at = `${x(i) + 4} ${box.top + box.height + 14}`;
    return svg("text", { class: "tick name", "text-anchor": "end", transform: `translate(${at}) rotate(-${NAME_TURN})` }, names[i]);
  });
  return [...lines, ...texts, ...written.filter(Boolean)];
}

function chanceLine({ width, box, y, floor, top }, value) {
  if (!Number.isFinite(value) || value < floor || value > top) return [];
  const at = y(value);
  return [svg("line", { class: "chance", x1: box.left, x2: width - box.right, y1: at, y2: at })];
}

function path(points) {
  let out = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) pen = "M";
    else {
      out += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    }
  }
  return out;
}

function between({ layers, series, x, y }) {
  if (series.length < 2) return null;
  const [a, b] = series.map(({ values }) => values);
  const places = layers.map((_, i) => i).filter((i) => Number.isFinite(a[i]) && Number.isFinite(b[i]));
  const edge = [...places.map((i) => [x(i), y(a[i])]), ...places.reverse().map((i) => [x(i), y(b[i])])];
  return svg("path", { class: "between", d: edge.length ? `${path(edge)}Z` : "" });
}

function line({ layers, x, y }, values, s) {
  const stroke = STROKES[s % STROKES.length];
  const d = path(values.map((value, i) => [x(i), y(value)]));
  const dots = layers.map((layer, i) =>
    Number.isFinite(values[i]) ? svg("circle", { cx: x(i), cy: y(values[i]), r: s === 0 ? 3.6 : 2.6, fill: stroke }) : null,
  );
  return svg("g", {}, svg("path", { class: "series", d, stroke, "stroke-dasharray": DASHES[s % DASHES.length], "stroke-width": s === 0 ? 2.4 : 1.8 }), ...dots);
}

function seriesLegend({ series, text }, title, chance) {
  const keys = series.map(({ label, style }, s) => {
    const look = (style ?? s) % STROKES.length;
    return el("span", {}, svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: STROKES[look], "stroke-width": 2.6, "stroke-dasharray": DASHES[look] })), label);
  });
  if (Number.isFinite(chance)) {
    keys.push(el("span", {}, svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { class: "chance", x1: 0, x2: 26, y1: 4, y2: 4 })), `expected by chance (${text(chance)})`));
  }
  return el("div", { class: "series-legend" }, el("b", {}, title), ...keys);
}

function followPointer(node, chart, tipOf) {
  const { layers, width, box, x } = chart;
  const guide = svg("line", { class: "guide", y1: box.top, y2: box.top + box.height, visibility: "hidden" });
  node.append(guide);
  let current = -1;
  const show = (i, clientX, clientY) => {
    current = i;
    guide.setAttribute("x1", x(i));
    guide.setAttribute("x2", x(i));
    guide.setAttribute("visibility", "visible");
    showTip([...layerTip(chart, i), ...tipOf(layers[i])], clientX, clientY);
  };
  const hide = () => {
    guide.setAttribute("visibility", "hidden");
    hideTip();
  };
  node.addEventListener("pointermove", (event) => {
    const at = (event.clientX - node.getBoundingClientRect().left - box.left) / (width - box.left - box.right);
    show(Math.max(0, Math.min(layers.length - 1, Math.floor(at * layers.length))), event.clientX, event.clientY);
  });
  node.addEventListener("pointerleave", hide);
  node.addEventListener("blur", hide);
  node.addEventListener("click", () => current >= 0 && scrollToLayer(layers[current].layer));
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter" && current >= 0) scrollToLayer(layers[current].layer);
    if (!step) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(layers.length - 1, current + step));
    const rectangle = node.getBoundingClientRect();
    show(next, rectangle.left + x(next), rectangle.top + box.top + 40);
  });
}

function layerTip({ layers, series, text }, i) {
  const layer = layers[i];
  const size = layer.height * layer.width > 1 ? ` · ${layer.height} × ${layer.width}` : "";
  return [
    el("b", {}, layer.layer),
    el("p", { class: "quiet" }, `${layer.kind} · ${counted(layer.units)} units${size}`),
    el("dl", {}, ...series.flatMap(({ label, values, style }, s) => [
      el("dt", {}, label),
      el("dd", { style: { color: STROKES[(style ?? s) % STROKES.length] } }, text(values[i])),
    ])),
  ];
}
