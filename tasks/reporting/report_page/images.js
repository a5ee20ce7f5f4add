// The maps of the images: one large, the others of the same method small beside it.

const METHODS = { pca: "PCA", tsne: "t-SNE", umap: "UMAP", autoencoder: "autoencoder" };
const WRONG = "#ff6b6b";
const map = { recording: main, method: null, layer: null, colour: "class", large: null, small: [] };

function mapsOf(recording, method) {
  return recording.maps.maps.filter((one) => one.method === method);
}

function methodName(method) {
  return METHODS[method] ?? method;
}

function currentMap() {
  const maps = mapsOf(map.recording, map.method);
  return maps.find((one) => one.layer === map.layer) ?? maps[maps.length - 1];
}

function pointColour(recording, image) {
  const { label, predicted } = recording.images;
  const own = code(label, image);
  if (map.colour === "class") return own < 0 ? classColour(-1) : colours[own];
  const said = code(predicted, image);
  return own >= 0 && said >= 0 && own !== said ? WRONG : "#52606f";
}

function drawMap(canvas, one, size, radius) {
  const { recording } = map;
  const context = fitCanvas(canvas, size, size);
  const images = recording.maps.sets[one.set];
  const { points } = one;
  const scale = (size - 4 * radius - 8) / 65535;
  const offset = 2 * radius + 4;
  const put = (i, colour) => {
    const [x, y] = [offset + points[2 * i] * scale, offset + points[2 * i + 1] * scale];
    context.fillStyle = colour;
    if (radius < 1.5) context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    else {
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
  };
  const raised = (i) => (map.colour === "class" ? state.focus < 0 || code(recording.images.label, images[i]) === state.focus : pointColour(recording, images[i]) === WRONG);
  // What is looked for is drawn last, so that it lies on top.
  context.globalAlpha = state.focus >= 0 || map.colour !== "class" ? 0.4 : 0.8;
  for (let i = 0; i < images.length; i++) if (!raised(i)) put(i, map.colour === "class" ? "#3a434f" : pointColour(recording, images[i]));
  context.globalAlpha = 0.82;
  for (let i = 0; i < images.length; i++) if (raised(i)) put(i, pointColour(recording, images[i]));
  return { images, points, scale, offset, size };
}

function nearest(drawn, x, y) {
  let [best, distance] = [-1, 14 * 14];
  for (let i = 0; i < drawn.images.length; i++) {
    const dx = drawn.offset + drawn.points[2 * i] * drawn.scale - x;
    const dy = drawn.offset + drawn.points[2 * i + 1] * drawn.scale - y;
    const d = dx * dx + dy * dy;
    if (d < distance) [best, distance] = [i, d];
  }
  return best;
}

function imageTip(recording, image) {
  const facts = imageFacts(recording, image);
  const picture = thumbnail(recording, image, 72);
  const right = facts.label >= 0 && facts.label === facts.predicted;
  return [
    picture ?? "",
    el("p", {}, swatch(facts.label), facts.label < 0 ? "no label" : className(facts.label)),
    el("p", { class: "quiet" }, facts.predicted < 0 ? "no prediction" : `${right ? "rightly" : "predicted"} ${className(facts.predicted)}, ${percent(facts.confidence)} sure`),
    el("p", { class: "quiet" }, shortened(facts.id, 40)),
  ];
}

function qualityCard(one) {
  const { quality } = one;
  if (!quality) return el("div", { class: "quality" }, el("p", { class: "quiet" }, "No quality was recorded for this map."));
  const lines = [
    ["trustworthiness", fixed(quality.trustworthiness), "are the map's neighbours real neighbours?"],
    ["continuity", fixed(quality.continuity), "are real neighbours neighbours on the map?"],
    [`${quality.neighbours}-NN purity, map`, percent(quality.knn_purity ?? NaN), "neighbours in the map that share the class"],
    [`${quality.neighbours}-NN purity, source`, percent(quality.source_knn_purity ?? NaN), `the same among the ${counted(quality.source_features)} features`],
    ["silhouette, map", quality.silhouette === null ? null : fixed(quality.silhouette), quality.source_silhouette === null ? "" : `${fixed(quality.source_silhouette)} in the source`],
    ["variance kept", quality.explained_variance === null ? null : percent(quality.explained_variance), "by the two axes"],
    ["images", counted(quality.images), `${quality.placed_images ? `and ${counted(quality.placed_images)} placed; ` : ""}${quality.dimensions} dimensions, seed ${quality.seed}`],
  ].filter(([, value]) => value !== null);
  return el("div", { class: "quality" },
    el("h3", {}, el("code", {}, ...wrappingName(one.layer)), ` ${methodName(one.method)}`),
    el("dl", {}, ...lines.map(([name, value, note]) => el("div", {}, el("dt", {}, name), el("dd", {}, value), el("dd", { class: "quiet" }, note)))));
}

function drawImages() {
  const one = currentMap();
  if (!one) return;
  map.layer = one.layer;
  const size = Math.max(260, Math.min(680, byId("map-large").clientWidth));
  map.large = drawMap(byId("map-canvas"), one, size, size < 420 || map.recording.images.count > 4000 ? 1.6 : 2.4);
  byId("map-canvas").setAttribute("aria-label", `${methodName(one.method)} map of ${map.large.images.length} images by layer ${one.layer}, coloured by ${map.colour}`);
  byId("map-quality").replaceChildren(qualityCard(one));
  for (const { button, canvas, small } of map.small) {
    button.setAttribute("aria-pressed", String(small.layer === one.layer));
    drawMap(canvas, small, smallSize(), 0.8);
  }
  document.documentElement.dataset.points = map.large.images.length;
}

// Three beside one another where there is room, else two; the frame around each takes 18 pixels.
function smallSize() {
  const width = byId("map-small").clientWidth;
  const beside = width > 420 ? 3 : 2;
  return Math.max(90, Math.min(190, Math.floor((width - 10 * (beside - 1)) / beside) - 18));
}

function buildSmall() {
  const maps = mapsOf(map.recording, map.method);
  map.small = maps.map((small) => {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const purity = small.quality?.knn_purity ?? NaN;
    const note = Number.isFinite(purity) ? `purity ${percent(purity)}` : "";
    const button = el("button", { type: "button", class: "small-map", onclick: () => {
      map.layer = small.layer;
      drawImages();
    } }, canvas, el("code", { title: small.layer }, layerLabel(small.layer, 18)), el("span", { class: "quiet" }, note));
    return { button, canvas, small };
  });
  byId("map-small").replaceChildren(...map.small.map(({ button }) => button));
}

function buildImages() {
  const methods = [...new Set(map.recording.maps.maps.map((one) => one.method))];
  if (!methods.includes(map.method)) map.method = ["umap", "tsne", "pca"].find((method) => methods.includes(method)) ?? methods[0];
  const layers = mapsOf(map.recording, map.method).map((one) => one.layer);
  if (!layers.includes(map.layer)) map.layer = layers[layers.length - 1];
  const withMaps = recordings.filter((recording) => recording.maps.maps.length);
  const rebuild = (change) => (value) => {
    change(value);
    buildSmall();
    drawImages();
  };
  const methodControl = segmented("method", methods.map((method) => [method, methodName(method)]), map.method, rebuild((method) => (map.method = method)));
  byId("map-controls").replaceChildren(
    withMaps.length > 1
      ? segmented("show", withMaps.map((recording) => [recording.place, recording.label]), map.recording.place, (place) => {
          map.recording = recordings[place];
          buildImages();
        })
      : "",
    methodControl,
    main.images.labelled ? segmented("colour", [["class", "class"], ["wrong", "wrong predictions"]], map.colour, rebuild((colour) => (map.colour = colour))) : "",
  );
  buildSmall();
  drawImages();
}

function startImages() {
  const body = byId("images-body");
  map.recording = recordings.find((recording) => recording.maps.maps.length) ?? null;
  if (!map.recording) {
    const [id] = document.querySelector("meta[name=activarium-recordings]").content.split(" ");
    body.append(el("div", { class: "card empty" },
      el("p", {}, "There are no maps of the images yet. They are made from the pooled features of the recording:"),
      el("pre", { tabindex: 0 }, el("code", {}, `activarium embed ${id}`))));
    return;
  }
  const canvas = el("canvas", { id: "map-canvas", role: "img" });
  const legendRow = el("div", { class: "legend" });
  if (main.images.labelled) legend(legendRow);
  body.append(
    el("div", { class: "controls", id: "map-controls" }),
    legendRow,
    el("div", { class: "map-row" },
      el("div", { class: "card map-large" }, el("div", { id: "map-large" }, canvas)),
      el("div", { class: "map-side" }, el("div", { class: "card", id: "map-quality" }), el("div", { class: "map-small", id: "map-small", role: "group", "aria-label": "maps of the other layers" }))),
  );
  canvas.addEventListener("pointermove", (event) => {
    const rectangle = canvas.getBoundingClientRect();
    const i = nearest(map.large, event.clientX - rectangle.left, event.clientY - rectangle.top);
    if (i < 0) hideTip();
    else showTip(imageTip(map.recording, map.large.images[i]), event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", hideTip);
  onFocus(drawImages);
  buildImages();
}
