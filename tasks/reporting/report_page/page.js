// Starts the sections in order, and draws again what depends on the width.

drawBarcodes();
startBeyond();
startWhere();
startWhich();
startPairs();
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
    drawBeyond();
    drawWhere();
    drawBarcodes();
    drawGrids();
    drawPairs();
    if (map.recording) drawImages();
  });
});
