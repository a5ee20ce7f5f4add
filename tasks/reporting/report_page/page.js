// Starts the sections in order, and draws again what depends on the width.

drawBarcodes();
startWhere();
startWhich();
startImages();
startTables();
openFromHash();
document.documentElement.dataset.ready = "yes";

let widthBefore = innerWidth;
let waiting = 0;

addEventListener("resize", () => {
  // Phones report a resize whenever their address bar moves; only the width matters here.
  if (innerWidth === widthBefore) return;
  widthBefore = innerWidth;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => {
    drawWhere();
    drawBarcodes();
    drawGrids();
    if (map.recording) drawImages();
  });
});
