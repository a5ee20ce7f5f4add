// The units as squares: colour is the preferred class, brightness the effect.

const GROUND = "#101318";
const SILENT = "#262c35";
const SILENT_BESIDE_FOCUS = "#191e25";
const HOLLOW = "#5a6675";
const LEVELS = 24;
const DIM = 0.13;

const ramps = classes.map((_, index) =>
  Array.from({ length: LEVELS }, (_, level) => mixed(colours[index], GROUND, 0.2 + (0.8 * level) / (LEVELS - 1))),
);
const dimmed = classes.map((_, index) => mixed(colours[index], GROUND, DIM));

function levelOf(recording, unit) {
  const effect = EFFECTS[state.effect];
  const value = share(recording.units[state.effect], unit);
  return Number.isNaN(value) ? 0 : Math.max(0, Math.min(1, effect.level(value)));
}

function fillOf(recording, unit) {
  const preferred = code(recording.units.preferred, unit);
  if (!(recording.units.flags[unit] & SIGNIFICANT) || preferred < 0) return state.focus >= 0 ? SILENT_BESIDE_FOCUS : SILENT;
  if (state.focus >= 0 && state.focus !== preferred) return dimmed[preferred];
  return ramps[preferred][Math.round(levelOf(recording, unit) * (LEVELS - 1))];
}

// Classes in their order, strong units first; then what is not significant; dead units last.
function unitsInOrder(recording, layer, order = state.order) {
  const units = Array.from({ length: layer.count }, (_, i) => layer.start + i);
  if (order === "channel") return units;
  const { flags, preferred } = recording.units;
  const group = (unit) => (flags[unit] & DEAD ? 2e6 : flags[unit] & SIGNIFICANT ? preferred[unit] : 1e6);
  const keys = new Map(units.map((unit) => [unit, group(unit) - levelOf(recording, unit) * 0.999]));
  return units.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
}

function cellSize() {
  const count = main.figures.units;
  return count <= 2000 ? 16 : count <= 6000 ? 14 : count <= 20000 ? 10 : count <= 40000 ? 8 : 6;
}

// One grid: a canvas, and what lies where on it.
function makeGrid(recording, layer) {
  const cursor = el("div", { class: "cursor", hidden: true });
  const canvas = el("canvas", {
    tabindex: 0,
    role: "application",
    "aria-roledescription": "grid of units",
    "aria-label": `${counted(layer.count)} units of ${layer.layer}, ${recording.label}; move with the arrow keys, open with Enter`,
  });
  const node = el("div", { class: "grid" }, canvas, cursor);
  const grid = { recording, layer, canvas, cursor, node, order: [], sorting: "", columns: 1, size: cellSize(), at: -1 };
  canvas.addEventListener("pointermove", (event) => pointAt(grid, cellUnder(grid, event), event.clientX, event.clientY));
  canvas.addEventListener("pointerleave", () => leave(grid));
  canvas.addEventListener("blur", () => leave(grid));
  canvas.addEventListener("click", (event) => openCell(grid, cellUnder(grid, event)));
  canvas.addEventListener("keydown", (event) => moveCursor(grid, event));
  return grid;
}

function drawGrid(grid, width) {
  const { recording, layer, canvas, size } = grid;
  const sorting = `${state.order} ${state.order === "class" ? state.effect : ""}`;
  if (grid.sorting !== sorting) Object.assign(grid, { sorting, order: unitsInOrder(recording, layer) });
  grid.columns = Math.max(1, Math.min(layer.count, Math.floor(width / size)));
  const rows = Math.ceil(layer.count / grid.columns);
  const context = fitCanvas(canvas, grid.columns * size, rows * size);
  const side = size - (size > 8 ? 2 : 1);
  const { flags } = recording.units;
  context.strokeStyle = HOLLOW;
  grid.order.forEach((unit, i) => {
    const left = (i % grid.columns) * size;
    const top = Math.floor(i / grid.columns) * size;
    if (flags[unit] & DEAD) {
      context.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
    } else {
      context.fillStyle = fillOf(recording, unit);
      context.fillRect(left, top, side, side);
    }
  });
  return layer.count;
}

function cellUnder(grid, event) {
  const rectangle = grid.canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - rectangle.left) / grid.size);
  const row = Math.floor((event.clientY - rectangle.top) / grid.size);
  const cell = row * grid.columns + column;
  return column < 0 || column >= grid.columns || cell < 0 || cell >= grid.order.length ? -1 : cell;
}

function pointAt(grid, cell, x, y) {
  grid.at = cell;
  if (cell < 0) {
    leave(grid);
    return;
  }
  const { cursor, size, columns, recording } = grid;
  cursor.hidden = false;
  cursor.style.width = cursor.style.height = `${size + 1}px`;
  cursor.style.transform = `translate(${(cell % columns) * size - 2}px, ${Math.floor(cell / columns) * size - 2}px)`;
  showTip(unitTip(recording, grid.order[cell]), x, y);
}

function leave(grid) {
  grid.cursor.hidden = true;
  hideTip();
}

function openCell(grid, cell) {
  if (cell >= 0) openUnit(grid.recording, grid.order[cell]);
}

function moveCursor(grid, event) {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns }[event.key];
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    openCell(grid, Math.max(0, grid.at));
  }
  if (!step) return;
  event.preventDefault();
  const next = grid.at < 0 ? 0 : grid.at + step;
  if (next < 0 || next >= grid.order.length) return;
  const rectangle = grid.canvas.getBoundingClientRect();
  const x = rectangle.left + (next % grid.columns) * grid.size;
  const y = rectangle.top + Math.floor(next / grid.columns) * grid.size;
  pointAt(grid, next, x, y);
}

function unitTip(recording, unit) {
  const facts = unitFacts(recording, unit);
  const rows = profileOf(recording, unit);
  const note = facts.isDead ? "dead: constant, or never above zero" : facts.isSignificant ? "" : "not significant";
  return [
    el("b", {}, facts.name),
    el("span", { class: "quiet" }, ` ${recording.label}`),
    facts.preferred < 0 ? "" : el("p", {}, swatch(facts.preferred), shortened(className(facts.preferred), 22), el("span", { class: "quiet" }, " before "), swatch(facts.runnerUp), shortened(className(facts.runnerUp), 22)),
    note ? el("p", { class: "quiet" }, note) : "",
    facts.copyOf ? el("p", { class: "quiet" }, `copies ${unitFacts(recording, facts.copyOf.unit).name} (r ${signed(facts.copyOf.r)})`) : "",
    el("dl", {}, ...[
      ["AUROC", fixed(facts.auroc)],
      ["η²", percent(facts.eta2)],
      ["selectivity", fixed(facts.selectivity)],
      ["q", probability(facts.qLog10)],
      ...(Number.isFinite(facts.fwerP) ? [["family-wise p", shortP(facts.fwerP)]] : []),
    ].flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    rows.length ? miniBars(rows.slice(0, 12)) : "",
  ];
}

function miniBars(rows) {
  const [low, high] = [Math.min(0, ...rows.map((row) => row.mean)), Math.max(0, ...rows.map((row) => row.mean))];
  const scale = 42 / (high - low || 1);
  const bars = rows.map((row, i) => {
    const [from, to] = [Math.max(row.mean, 0), Math.min(row.mean, 0)];
    return svg("rect", { x: i * 16, y: (high - from) * scale, width: 13, height: Math.max(1, (from - to) * scale), rx: 1.5, fill: colours[row.class] });
  });
  return svg("svg", { class: "mini", width: rows.length * 16, height: 44, "aria-hidden": "true" }, ...bars);
}

// Which classes the significant units of a layer prefer, as one stacked bar.
function composition(recording, layer) {
  const counts = new Array(classes.length).fill(0);
  const { flags, preferred } = recording.units;
  for (let unit = layer.start; unit < layer.start + layer.count; unit++) {
    if (flags[unit] & SIGNIFICANT && preferred[unit] < classes.length) counts[preferred[unit]]++;
  }
  const parts = counts.map((count, index) => count && el("i", { style: { "flex-grow": count, background: colours[index] } })).filter(Boolean);
  const rest = layer.count - counts.reduce((sum, count) => sum + count, 0);
  if (rest > 0) parts.push(el("i", { style: { "flex-grow": rest, background: SILENT } }));
  return el("div", { class: "composition", "aria-hidden": "true" }, ...parts);
}

let grids = [];

function shownRecordings() {
  return state.view === "both" ? recordings.slice(0, 2) : [recordings[Number(state.view)]];
}

function layerId(name) {
  return `layer-${main.layers.findIndex((layer) => layer.layer === name)}`;
}

function buildGrids() {
  const shown = shownRecordings();
  grids = [];
  const head = shown.length > 1 ? [el("div", { class: "grid-head" }, el("span", {}), ...shown.map((recording) => el("b", {}, recording.label)))] : [];
  const rows = shownLayers().map((layer) => {
    const cells = shown.map((recording) => {
      const own = recording.layerByName.get(layer.layer);
      if (!own || !own.count) return el("p", { class: "quiet" }, "not recorded");
      const grid = makeGrid(recording, own);
      grids.push(grid);
      return grid.node;
    });
    return el("div", { class: "layer-row", id: layerId(layer.layer) }, layerHead(shown[0], layer), ...cells);
  });
  const holder = byId("which-grids");
  holder.classList.toggle("double", shown.length > 1);
  holder.replaceChildren(...head, ...rows);
  drawGrids();
}

function layerHead(recording, layer) {
  const own = recording.layerByName.get(layer.layer) ?? layer;
  const significant = own.selective_fraction === null ? "no statistics" : `${percent(own.selective_fraction)} significant`;
  const effect = own.eta2_mean === null ? "" : ` · η² ${percent(own.eta2_mean)}`;
  return el("div", { class: "layer-head" }, el("code", { title: layer.layer }, ...wrappingName(layer.layer)), el("p", { class: "quiet" }, `${counted(layer.units)} units${effect}`, el("br"), significant), composition(recording, own));
}

function drawGrids() {
  const nodes = document.querySelectorAll("#which-grids .grid");
  if (!nodes.length) return;
  const width = Math.min(...[...nodes].map((node) => node.clientWidth));
  const drawn = grids.reduce((sum, grid) => sum + drawGrid(grid, width), 0);
  document.documentElement.dataset.units = drawn;
}

function scrollToLayer(name) {
  const row = byId(layerId(name));
  if (!row) return;
  row.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  row.classList.add("found");
  setTimeout(() => row.classList.remove("found"), 1800);
}

function brightnessKey() {
  const key = el("span", { class: "ramp" });
  const write = () => {
    const { label, low, high } = EFFECTS[state.effect];
    key.replaceChildren(`${label} ${low}`, el("i", {}), high);
  };
  write();
  return [key, write];
}

function brightness(writeKey) {
  return segmented("brightness", Object.entries(EFFECTS).map(([name, { label }]) => [name, label]), state.effect, (effect) => {
    state.effect = effect;
    writeKey();
    drawGrids();
  });
}

function sorting() {
  return segmented("sort by", [["class", "preferred class"], ["channel", "channel"]], state.order, (order) => {
    state.order = order;
    drawGrids();
  });
}

function startWhich() {
  // The control beside the network answers "is it more than chance" at a glance, given the room.
  if (controls.length && innerWidth >= 1100) state.view = "both";
  const [key, writeKey] = brightnessKey();
  const hasClasses = recordings.some((recording) => recording.figures.significant_share !== null);
  const views = recordings.map((recording, i) => [String(i), recording.label]);
  if (recordings.length > 1) views.push(["both", "side by side"]);
  byId("which-controls").append(
    recordings.length > 1
      ? segmented("show", views, state.view, (view) => {
          state.view = view;
          buildGrids();
        })
      : "",
    hasClasses ? brightness(writeKey) : "",
    hasClasses ? sorting() : "",
    kindSelection(),
  );
  if (hasClasses) {
    legend(byId("which-legend"));
    byId("which-legend").append(key);
  } else {
    byId("which-legend").append(el("p", { class: "notice" }, "Without class statistics no unit has a colour; its images can still be opened."));
  }
  kindListeners.push(buildGrids);
  onFocus(drawGrids);
  buildGrids();
}
