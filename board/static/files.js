// What readers take along: the raw values of a map, and the view as a picture.

import { download } from "./dom.js";

export function saveCsv(name, map) {
  const lines = [];
  const across = map.width * map.channels;
  for (let y = 0; y < map.height; y++)
    lines.push([...map.values.subarray(y * across, (y + 1) * across)].join(","));
  download(`${name}.csv`, new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
}

// NumPy's own format, version 1.0: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
export function saveNpy(name, map) {
  const kind = map.picture ? "|u1" : "<f8";
  const shape = [map.height, map.width, map.channels].slice(0, map.channels > 1 ? 3 : 2).join(", ");
  const text = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape}), }`;
  const length = Math.ceil((text.length + 11) / 64) * 64 - 10;
  const header = new Uint8Array(10 + length);
  header.set([0x93, ...[..."NUMPY"].map((c) => c.charCodeAt(0)), 1, 0, length & 255, length >> 8]);
  header.set(new TextEncoder().encode(`${text.padEnd(length - 1)}\n`), 10);
  download(`${name}.npy`, new Blob([header, map.values], { type: "application/octet-stream" }));
}

export function saveCanvas(name, canvas) {
  canvas.toBlob((blob) => download(`${name}.png`, blob), "image/png");
}

const MARGIN = 16;
const FONT = "system-ui, sans-serif";

// The sheets that are shown as one PNG: where each thing stands on the page, there it is drawn.
export function saveView(name, views, heading) {
  const shown = views.filter(({ tables, root }) => !tables.hidden && root.isConnected && tables.offsetWidth);
  const places = [];
  let bottom = MARGIN + 24;
  let right = 400;
  for (const view of shown) {
    const box = view.tables.getBoundingClientRect();
    places.push({ view, box, top: bottom + 30 });
    bottom += 30 + box.height + 24;
    right = Math.max(right, box.width);
  }
  const canvas = document.createElement("canvas");
  const ratio = Math.max(1, Math.round(window.devicePixelRatio));
  canvas.width = ratio * (right + 2 * MARGIN);
  canvas.height = ratio * (bottom + MARGIN);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const style = getComputedStyle(document.body);
  pen.fillStyle = style.backgroundColor;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  const write = writer(pen, style.color);
  write(heading, MARGIN, MARGIN + 12, `600 16px ${FONT}`);
  for (const { view, box, top } of places) {
    write(view.heading.textContent, MARGIN, top - 12, `600 14px ${FONT}`);
    drawTable(pen, write, view, { left: MARGIN - box.left, top: top - box.top });
  }
  saveCanvas(name, canvas);
}

function writer(pen, colour) {
  return (text, left, top, font, width = Infinity) => {
    pen.fillStyle = colour;
    pen.font = font;
    pen.textBaseline = "middle";
    let shown = text;
    while (shown.length > 1 && pen.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
    pen.fillText(shown, left, top);
  };
}

function drawTable(pen, write, view, shift) {
  const at = (node) => {
    const box = node.getBoundingClientRect();
    return { left: box.left + shift.left, top: box.top + shift.top, width: box.width, height: box.height };
  };
  for (const { canvas, button } of view.cells) {
    if (button.disabled) continue;
    const { left, top, width, height } = at(canvas);
    pen.imageSmoothingEnabled = canvas.classList.contains("fine");
    pen.drawImage(canvas, left, top, width, height);
  }
  for (const { bar, strip, colours } of view.bars) {
    if (bar.hidden) continue;
    const { left, top, width, height } = at(strip);
    const shades = pen.createLinearGradient(left, 0, left + width, 0);
    colours.points.forEach((point, i, { length }) => shades.addColorStop(i / (length - 1), `#${point}`));
    pen.fillStyle = shades;
    pen.fillRect(left, top, width, height);
  }
  const words = "th, .note, .bar:not([hidden]) .ticks span";
  for (const node of view.tables.querySelectorAll(words)) drawText(pen, write, node, at(node));
}

// Text with the line breaks that it has on the page.
function drawText(pen, write, node, place) {
  const style = getComputedStyle(node);
  const font = `${style.fontWeight} ${style.fontSize} ${FONT}`;
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const own = node.getBoundingClientRect();
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    for (const line of lines(text, range)) {
      const left = place.left + line.left - own.left;
      write(line.text, left, place.top + line.middle - own.top, font);
    }
  }
}

function lines(text, range) {
  const found = [];
  for (let i = 0; i < text.length; i++) {
    range.setStart(text, i);
    range.setEnd(text, i + 1);
    const box = range.getBoundingClientRect();
    if (!box.width) continue;
    const middle = (box.top + box.bottom) / 2;
    const last = found.at(-1);
    if (last && Math.abs(last.middle - middle) < 2) last.text += text.data[i];
    else found.push({ text: text.data[i], left: box.left, middle });
  }
  return found;
}
