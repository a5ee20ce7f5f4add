// The whole network as one strip per recording: every layer equally wide, its units side by side.
function drawBarcodes() {
  const holder = byId("barcodes");
  if (!classes.length || recordings.every((recording) => recording.figures.significant_share === null)) return;
  const width = Math.max(240, holder.clientWidth);
  const strips = recordings.slice(0, 3).map((recording) => {
    const canvas = el("canvas", { role: "img", "aria-label": `All units of ${recording.label} from the first to the last layer, coloured by preferred class` });
    const context = fitCanvas(canvas, width, 46);
    const step = width / recording.layers.length;
    recording.layers.forEach((layer, l) => {
      const order = unitsInOrder(recording, layer, "class");
      const [from, to] = [Math.round(l * step), Math.round((l + 1) * step) - (step > 6 ? 2 : 0)];
      for (let column = from; column < to && order.length; column++) {
        // Every pixel column shows a vertical run of the layer's units, in order.
        for (let row = 0; row < 46; row += 2) {
          const at = ((column - from) * 23 + row / 2) / ((to - from) * 23);
          const unit = order[Math.floor(at * order.length)];
          context.fillStyle = fillOf(recording, unit);
          context.fillRect(column, row, 1, 2);
        }
      }
    });
    return el("figure", {}, el("figcaption", {}, recording.label), canvas);
  });
  holder.replaceChildren(...strips, el("p", { class: "quiet" }, "Every unit, first layer left, last layer right: colour is the preferred class, brightness η², dark is not significant."));
}
