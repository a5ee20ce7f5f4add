"use strict";

/* Tells the number of the cell that is pointed at. */
const pairs = JSON.parse(document.getElementById("payload").textContent);

function cellAt(image, event, rows, columns) {
  const box = image.getBoundingClientRect();
  const place = (at, start, size, count) => Math.min(count - 1, Math.max(0, Math.floor(((at - start) / size) * count)));
  return [place(event.clientY, box.top, box.height, rows), place(event.clientX, box.left, box.width, columns)];
}

for (const figure of document.querySelectorAll(".heat")) {
  const { layers, others, maps } = pairs[figure.dataset.pair];
  const { cells } = maps[figure.dataset.map];
  const [image, said] = [figure.querySelector("img"), figure.querySelector("output")];
  const reading = said.textContent;
  image.addEventListener("pointermove", (event) => {
    const [row, column] = cellAt(image, event, layers.length, others.length);
    const value = cells[row][column];
    said.textContent = `${layers[row]} with ${others[column]}: ${value === null ? "undefined" : value.toFixed(3)}`;
    said.classList.add("pointed");
  });
  image.addEventListener("pointerleave", () => {
    said.textContent = reading;
    said.classList.remove("pointed");
  });
}
document.documentElement.dataset.ready = "yes";
