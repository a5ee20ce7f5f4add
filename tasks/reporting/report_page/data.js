// The data of the page, unpacked: one object per recording, with typed arrays per unit.

const ARRAYS = { Uint8: Uint8Array, Uint16: Uint16Array, Uint32: Uint32Array, Float32: Float32Array };
const DEAD = 1;
const SIGNIFICANT = 2;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function unpack(packed) {
  return new ARRAYS[packed.type](bytesOf(packed.data).buffer);
}

function share(array, i) {
  const none = array.BYTES_PER_ELEMENT === 1 ? 255 : 65535;
  return array[i] === none ? NaN : array[i] / (none - 1);
}

function code(array, i) {
  const none = array.BYTES_PER_ELEMENT === 2 ? 65535 : 4294967295;
  return array[i] === none ? -1 : array[i];
}

function unpackAll(object) {
  const isPacked = (value) => value !== null && typeof value === "object" && "data" in value;
  return Object.fromEntries(
    Object.entries(object).map(([name, value]) => [name, isPacked(value) ? unpack(value) : value]),
  );
}

function recordingOf(raw, place) {
  const layerOfUnit = new Uint16Array(raw.figures.units);
  raw.layers.forEach((layer, i) => layerOfUnit.fill(i, layer.start, layer.start + layer.count));
  return {
    ...raw,
    place,
    units: unpackAll(raw.units),
    copies: copiesOf(raw.units.copies),
    profiles: unpackAll(raw.profiles),
    exemplars: raw.exemplars && unpackAll(raw.exemplars),
    images: unpackAll(raw.images),
    maps: { sets: raw.maps.sets.map(unpack), maps: raw.maps.maps.map(unpackAll) },
    layerOfUnit,
    layerByName: new Map(raw.layers.map((layer) => [layer.layer, layer])),
  };
}

// Which unit each copy copies, and which units copy it.
function copiesOf(packedCopies) {
  const { unit, of, r } = unpackAll(packedCopies);
  const source = new Map();
  const copiedBy = new Map();
  unit.forEach((copy, i) => {
    source.set(copy, { unit: of[i], r: r[i] });
    copiedBy.set(of[i], [...(copiedBy.get(of[i]) ?? []), copy]);
  });
  return { source, copiedBy };
}

const raw = JSON.parse(byId("atlas").textContent);
const classes = raw.classes;
const recordings = raw.recordings.map(recordingOf);
const main = recordings[0];
const controls = recordings.slice(1);

// Ten well separated colours. In the alphabetical order of CIFAR-10 they give car red, truck green
// and horse blue, as the maps did that this page descends from.
const PALETTE = [
  "#62cdf5", "#ef4444", "#f6d743", "#f58b2e", "#c3a27d", "#f59bd0", "#18b8a2", "#4f7bff", "#ab72ff", "#58b947",
  "#e9eef5", "#a83a3a", "#a8a52a", "#96581c", "#c8f06a", "#d6336c", "#1c8aa0", "#9db2ff", "#7d4fc0", "#b2f2bb",
];

function classColour(index) {
  if (index < 0) return "#8b95a3";
  if (classes.length <= PALETTE.length) return PALETTE[index];
  // Neighbouring codes lie far apart on the wheel, and three lightnesses part near hues.
  return hslToHex((index * 360) / classes.length, 0.72, [0.62, 0.5, 0.74][index % 3]);
}

function hslToHex(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function mixed(hex, background, weight) {
  const [front, back] = [rgb(hex), rgb(background)];
  return `rgb(${front.map((value, i) => Math.round(value * weight + back[i] * (1 - weight))).join(",")})`;
}

const colours = classes.map((_, index) => classColour(index));

function className(index) {
  return index < 0 ? "none" : classes[index];
}

function unitFacts(recording, unit) {
  const { units } = recording;
  const layer = recording.layers[recording.layerOfUnit[unit]];
  const tenths = units.q_tenths[unit];
  return {
    unit,
    layer,
    name: `${layer.layer}/${units.channel[unit]}`,
    preferred: code(units.preferred, unit),
    runnerUp: code(units.runner_up, unit),
    aurocClass: code(units.auroc_class, unit),
    auroc: share(units.auroc, unit),
    eta2: share(units.eta2, unit),
    epsilon2: share(units.epsilon2, unit),
    selectivity: share(units.selectivity, unit),
    qLog10: tenths === 65535 ? NaN : -tenths / 10,
    permutationP: units.permutation_p ? share(units.permutation_p, unit) : NaN,
    fwerP: units.fwer_p ? share(units.fwer_p, unit) : NaN,
    copyOf: recording.copies.source.get(unit) ?? null,
    copies: recording.copies.copiedBy.get(unit)?.length ?? 0,
    mean: units.mean[unit],
    sd: units.sd[unit],
    isDead: (units.flags[unit] & DEAD) > 0,
    isSignificant: (units.flags[unit] & SIGNIFICANT) > 0,
  };
}

// The class means and AUROCs of a unit, the largest mean first.
function profileOf(recording, unit) {
  const { kept, codes, low, high, mean, auroc } = recording.profiles;
  const rows = [];
  for (let k = 0; k < kept; k++) {
    const at = unit * kept + k;
    const part = share(mean, at);
    if (Number.isNaN(part)) continue;
    const value = low[unit] + part * (high[unit] - low[unit]);
    rows.push({ class: codes ? codes[at] : k, mean: value, auroc: share(auroc, at) });
  }
  return rows.sort((a, b) => b.mean - a.mean || a.class - b.class);
}

function unitByName(recording, name) {
  const cut = name.lastIndexOf("/");
  const layer = recording.layerByName.get(name.slice(0, cut));
  if (!layer) return -1;
  const channel = Number(name.slice(cut + 1));
  for (let unit = layer.start; unit < layer.start + layer.count; unit++) {
    if (recording.units.channel[unit] === channel) return unit;
  }
  return -1;
}

const sprites = raw.sprites.map((sprite) => ({
  ...sprite,
  url: URL.createObjectURL(new Blob([bytesOf(sprite.jpeg)], { type: "image/jpeg" })),
  count: unpack(sprite.images).length,
}));
const placeOfImage = new Map();
raw.sprites.forEach((sprite, s) => unpack(sprite.images).forEach((image, i) => placeOfImage.set(image, [s, i])));
recordings.forEach((recording) => {
  recording.hasThumbnails = recording.facts.images_sha256 === main.facts.images_sha256;
});

function thumbnail(recording, image, size) {
  const place = recording.hasThumbnails ? placeOfImage.get(image) : undefined;
  if (!place) return null;
  const [sprite, i] = [sprites[place[0]], place[1]];
  const [row, column] = [Math.floor(i / sprite.columns), i % sprite.columns];
  const rows = Math.ceil(sprite.count / sprite.columns);
  return el("span", {
    class: "thumb",
    style: {
      width: `${size}px`,
      height: `${size}px`,
      "background-image": `url(${sprite.url})`,
      "background-size": `${sprite.columns * size}px ${rows * size}px`,
      "background-position": `${-column * size}px ${-row * size}px`,
    },
  });
}

function imageFacts(recording, image) {
  const { images } = recording;
  return {
    id: (images.ids ?? main.images.ids)[image] ?? String(image),
    label: code(images.label, image),
    predicted: code(images.predicted, image),
    confidence: share(images.confidence, image),
  };
}

// By these measures the page tells strong units from weak ones; `level` is the brightness.
const EFFECTS = {
  auroc: { label: "AUROC", level: (value) => (value - 0.5) * 2, low: "0.5", high: "1" },
  eta2: { label: "η²", level: (value) => Math.sqrt(value), low: "0", high: "1" },
  selectivity: { label: "selectivity", level: (value) => value, low: "0", high: "1" },
};
