// The panel of one unit: its numbers beside the controls', its classes, its images.

const panel = byId("panel");
let opened = null;
let openedFrom = null;

function openUnit(recording, unit) {
  hideTip();
  if (panel.hidden) openedFrom = document.activeElement;
  opened = { recording, unit };
  const facts = unitFacts(recording, unit);
  panel.replaceChildren(
    panelHead(facts),
    el("p", { class: "lead" }, ...unitSentence(facts), ...copySentence(recording, facts)),
    comparison(facts),
    ...classBars(recording, facts),
    ...exemplarRows(recording, unit),
    el("h3", {}, "Ask further"),
    el("pre", { tabindex: 0 }, el("code", {}, `activarium query --recording '${recording.id}' "SELECT * FROM unit_classes\n  WHERE unit = '${facts.name.replaceAll("'", "''")}'"`)),
  );
  panel.setAttribute("aria-label", `Unit ${facts.name}, ${recording.label}`);
  panel.hidden = false;
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
  writeHash(`#unit=${encodeURIComponent(facts.name).replaceAll("%2F", "/")}${recording.place ? `&recording=${recording.place}` : ""}`);
  document.documentElement.dataset.opened = facts.name;
}

function closeUnit() {
  if (panel.hidden) return;
  panel.hidden = true;
  opened = null;
  delete document.documentElement.dataset.opened;
  writeHash(location.pathname + location.search);
  openedFrom?.focus?.({ preventScroll: true });
}

// Leaves no trail in the history: "back" should leave the page, not walk through units.
function writeHash(address) {
  try {
    history.replaceState(null, "", address);
  } catch {
    // A page shown inside another one may have no address to change; the panel works without.
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function openFromHash() {
  const match = /^#unit=([^&]+)(?:&recording=(\d+))?$/.exec(location.hash);
  if (!match) return;
  const recording = recordings[Number(match[2] ?? 0)] ?? main;
  const unit = unitByName(recording, decoded(match[1]));
  if (unit >= 0) openUnit(recording, unit);
}

function panelHead(facts) {
  const step = (by) => () => {
    const { start, count } = facts.layer;
    openUnit(opened.recording, start + ((facts.unit - start + by + count) % count));
  };
  return el(
    "div",
    { class: "panel-head" },
    el("div", {}, el("p", { class: "eyebrow" }, `${opened.recording.label} · ${facts.layer.kind}`), el("h2", {}, facts.name)),
    el("div", { class: "panel-buttons" },
      el("button", { type: "button", "aria-label": "previous unit", onclick: step(-1) }, "‹"),
      el("button", { type: "button", "aria-label": "next unit", onclick: step(1) }, "›"),
      el("button", { type: "button", "aria-label": "close", onclick: closeUnit }, "×"),
    ),
  );
}

function unitSentence(facts) {
  if (facts.isDead) return ["This unit is dead: constant over all images, or never above zero."];
  if (facts.preferred < 0) return ["There are no class statistics for this unit."];
  const words = ["Responds most to ", swatch(facts.preferred), el("b", {}, className(facts.preferred)), ", then to ", swatch(facts.runnerUp), className(facts.runnerUp), ". "];
  if (!facts.isSignificant) return [...words, "Its differences between classes are not significant."];
  return [...words, "It tells ", el("b", {}, className(facts.aurocClass)), ` from the rest with an AUROC of ${fixed(facts.auroc)}.`];
}

function copySentence(recording, facts) {
  if (!facts.copyOf) return facts.copies ? [` ${counted(facts.copies)} ${facts.copies === 1 ? "unit of its layer copies" : "units of its layer copy"} it.`] : [];
  const source = unitFacts(recording, facts.copyOf.unit);
  const link = el("button", { type: "button", class: "link", onclick: () => openUnit(recording, source.unit) }, el("code", {}, source.name));
  return [" It copies ", link, ` (r ${signed(facts.copyOf.r)}).`];
}

function comparison(facts) {
  const columns = recordings.map((recording) => {
    const unit = unitByName(recording, facts.name);
    return { recording, facts: unit < 0 ? null : unitFacts(recording, unit) };
  });
  const lines = [
    ["prefers", (f) => className(f.preferred)],
    ["η²", (f) => percent(f.eta2)],
    ["ε²", (f) => percent(f.epsilon2)],
    ["AUROC", (f) => fixed(f.auroc)],
    ["selectivity", (f) => fixed(f.selectivity)],
    ["q", (f) => probability(f.qLog10)],
    ...(recordings.some(({ units }) => units.permutation_p) ? [["permutation p", (f) => shortP(f.permutationP)], ["family-wise p", (f) => shortP(f.fwerP)]] : []),
    ["response", (f) => `${significantDigits(f.mean)} ± ${significantDigits(f.sd, 2)}`],
  ];
  const head = el("tr", {}, el("td", {}), ...columns.map(({ recording }) =>
    el("th", { scope: "col" }, recording === opened.recording ? recording.label : el("button", { type: "button", class: "link", onclick: () => openUnit(recording, unitByName(recording, facts.name)) }, recording.label))));
  const rows = lines.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), ...columns.map((column) => el("td", {}, column.facts ? text(column.facts) : "–"))));
  return el("table", { class: "compare" }, el("thead", {}, head), el("tbody", {}, ...rows));
}

function classBars(recording, facts) {
  const rows = profileOf(recording, facts.unit);
  if (!rows.length) return [];
  const low = Math.min(0, ...rows.map((row) => row.mean));
  const span = Math.max(0, ...rows.map((row) => row.mean)) - low || 1;
  const zero = (-low / span) * 100;
  const bars = rows.map((row) => {
    const end = ((row.mean - low) / span) * 100;
    const bar = { left: `${Math.min(zero, end)}%`, width: `${Math.max(0.6, Math.abs(end - zero))}%`, background: colours[row.class] };
    return el("tr", {},
      el("th", { scope: "row", title: className(row.class) }, shortened(className(row.class), 18)),
      el("td", { class: "bar" }, el("div", {}, el("i", { style: bar }))),
      el("td", {}, significantDigits(row.mean)),
      el("td", {}, aurocDot(row.auroc), fixed(row.auroc)));
  });
  const title = recording.profiles.codes || recording.profiles.partial ? `The ${rows.length} classes of the largest mean` : "Classes";
  return [
    el("h3", {}, title),
    el("table", { class: "bars" }, el("thead", {}, el("tr", {}, el("td", {}), el("th", { scope: "col", colspan: 2 }, "mean response"), el("th", { scope: "col" }, "AUROC"))), el("tbody", {}, ...bars)),
  ];
}

function aurocDot(value) {
  const at = Number.isFinite(value) ? value * 44 : 22;
  return svg("svg", { class: "auroc", width: 44, height: 12, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 44, y1: 6, y2: 6, class: "rule" }), svg("line", { x1: 22, x2: 22, y1: 2, y2: 10, class: "rule" }), svg("circle", { cx: Math.max(3, Math.min(41, at)), cy: 6, r: 3, fill: "#e9edf3" }));
}

function exemplarRows(recording, unit) {
  const { exemplars } = recording;
  if (!exemplars) return [el("h3", {}, "Images"), el("p", { class: "quiet" }, "The tables hold no exemplars of this unit.")];
  const names = { most: "Images it answers most", least: "Images it answers least" };
  return Object.entries(names).flatMap(([extreme, title]) => {
    const images = Array.from({ length: exemplars.ranks }, (_, rank) => code(exemplars[extreme], unit * exemplars.ranks + rank));
    const shown = images.filter((image) => image >= 0);
    return shown.length ? [el("h3", {}, title), el("div", { class: "thumbs" }, ...shown.map((image) => exemplar(recording, image)))] : [];
  });
}

function exemplar(recording, image) {
  const facts = imageFacts(recording, image);
  const label = className(facts.label);
  const picture = thumbnail(recording, image, 64) ?? el("span", { class: "thumb none" }, "no picture");
  return el("figure", { title: `${facts.id}: ${label}, predicted ${className(facts.predicted)}` }, picture, el("figcaption", {}, swatch(facts.label), facts.label < 0 ? shortened(facts.id, 10) : shortened(label, 11)));
}

addEventListener("keydown", (event) => event.key === "Escape" && closeUnit());
addEventListener("hashchange", openFromHash);
