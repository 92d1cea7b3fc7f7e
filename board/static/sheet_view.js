// A sheet as a table on the page, or several where it is wider: names, a canvas for each map, notes, colour bars.

import { element } from "./dom.js";
import { gradient, colourMap } from "./colours.js";
import { cellOf, pixelsOf, scale } from "./cells.js";
import { paint } from "./drawing.js";
import { layoutOf } from "./layout.js";
import { placed } from "./sizes.js";
import { brief } from "./numbers.js";

// The time stands above all sheets; lanes may differ in it.
const WHEN = /, (before training|epoch [\d.]+)$/;

export class SheetView {
  // `open(name, row, column, lane)` is called when the reader wants a cell large.
  constructor(name, standard, open) {
    this.name = name;
    this.standard = standard;
    this.open = open;
    this.heading = element("h3", { id: `sheet-${name}` });
    this.problems = element("div", { class: "problems", role: "status" });
    this.tables = element("div", {});
    this.caption = element("p", { class: "caption" });
    this.root = element(
      "article", { class: "sheet", "data-sheet": name },
      this.heading, this.problems, this.tables, this.caption,
    );
    this.cells = [];
    this.about = "";
    this.signature = "";
    this.layout = { rows: [], columns: [], names: { rows: [], columns: [] } };
  }

  // Draws what `loaded` has, see Loader.lane; tables are built anew only when their names changed.
  draw(loaded, state, epochTops) {
    const some = loaded.find(({ sheet }) => sheet)?.sheet;
    const pending = state.scale === "epochs" && !epochTops;
    this.root.classList.toggle("pending", pending);
    this.say(loaded, pending);
    if (!some) {
      this.tables.hidden = true;
      this.signature = "";
      this.cells = [];
      return;
    }
    this.tables.hidden = false;
    this.heading.textContent = some.title.replace(WHEN, "") || this.name;
    this.caption.textContent = some.caption;
    this.about = some.about;
    this.layout = layoutOf(loaded, state);
    this.loaded = loaded;
    this.state = state;
    const longest = Math.max(...loaded.map(({ sheet }) => sheet?.longest ?? 1));
    const { size, blocks } = placed(longest, this.layout, state);
    this.build(blocks);
    this.fill(epochTops, size);
  }

  say(loaded, pending) {
    const lines = pending ? ["Reading all epochs for the scale that they share …"] : [];
    lines.push(...loaded.filter(({ problem }) => problem).map(({ problem }) => problem));
    for (const { lane, sheet, problem } of loaded)
      if (!sheet && !problem) lines.push(`${lane.run} has none at epoch ${lane.epoch} or before.`);
    this.problems.replaceChildren(...lines.map((line) => element("p", {}, line)));
  }

  build(blocks) {
    const { rows } = this.layout;
    const signature = JSON.stringify([rows, blocks, this.loaded.map(({ lane }) => [lane.key, lane.mark])]);
    if (signature !== this.signature) {
      this.signature = signature;
      this.cells = [];
      this.bars = [];
      const named = { "aria-labelledby": this.heading.id };
      const table = (columns) => element("table", named, this.head(columns), this.body(columns), this.foot(columns));
      this.tables.replaceChildren(...blocks.map(table));
    }
    // Labels of lanes name the epoch, which moves.
    for (const label of this.tables.querySelectorAll("th.lane")) {
      const { lane, time } = this.loaded[label.dataset.lane];
      const late = time && !lane.less && time[1] !== lane.epoch ? ` (epoch ${time[1]})` : "";
      label.lastChild.textContent = lane.label + late;
    }
  }

  head(columns) {
    const names = columns.map(({ name, lanes }) => {
      const scope = lanes.length > 1 ? "colgroup" : "col";
      const place = { scope, colspan: lanes.length, class: "column first" };
      return element("th", place, element("span", {}, name));
    });
    const head = element("thead", {}, element("tr", {}, element("td", { class: "corner" }), ...names));
    if (this.loaded.length > 1) {
      const labels = columns.flatMap(({ lanes }) =>
        lanes.map((lane, i) =>
          element(
            "th", { scope: "col", class: i ? "lane" : "lane first", "data-lane": lane },
            element("i", { class: "dot", style: `background:${this.loaded[lane].lane.mark}` }),
            element("span", {}, ""),
          ),
        ),
      );
      head.append(element("tr", {}, element("td", { class: "corner" }), ...labels));
    }
    return head;
  }

  body(columns) {
    return element(
      "tbody", {},
      ...this.layout.rows.map((row, r) => {
        const name = element("th", { scope: "row", class: row.name.length < 3 ? "short" : "" }, row.name);
        return element("tr", {}, name, ...columns.flatMap((column, c) =>
          column.lanes.map((lane, i) => this.cell(row, r, column, lane, i, r + c + i === 0)),
        ));
      }),
    );
  }

  cell(row, r, column, lane, i, first) {
    const canvas = element("canvas", { role: "img", width: 1, height: 1 });
    const button = element("button", { type: "button", class: "cell", tabindex: first ? 0 : -1 }, canvas);
    const note = element("div", { class: "note" });
    button.addEventListener("click", () => this.open(this.name, row.key, column.key, this.loaded[lane].lane));
    this.cells.push({ row, r, column, lane, canvas, button, note });
    return element("td", { class: i ? "" : "first" }, button, note);
  }

  foot(columns) {
    const bars = columns.map((column) => {
      const strip = element("div", { class: "strip" });
      const ticks = [0, 1, 2].map(() => element("span", {}));
      const bar = element("div", { class: "bar" }, strip, element("div", { class: "ticks" }, ...ticks));
      return { column, bar, strip, ticks };
    });
    this.bars.push(...bars);
    const cells = bars.map(({ column, bar }) =>
      element("td", { colspan: column.lanes.length, class: "first" }, bar),
    );
    return element("tfoot", {}, element("tr", {}, element("td", { class: "corner" }), ...cells));
  }

  fill(epochTops, size) {
    const drawn = this.cells.map((cell) =>
      cellOf(this.loaded[cell.lane], cell.row.key, cell.column.key, this.state),
    );
    scale(drawn, this.state.scale, epochTops);
    this.tables.style.setProperty("--cell", `${size}px`);
    this.cells.forEach((cell, i) => this.fillCell(cell, drawn[i], size));
    this.fillBars();
  }

  fillCell(cell, drawn, size) {
    cell.drawn = drawn;
    const { lane, time } = this.loaded[cell.lane];
    cell.button.classList.toggle("empty", !drawn.map);
    cell.button.disabled = !drawn.map;
    if (cell.note.textContent !== drawn.note) cell.note.textContent = drawn.note;
    const when = lane.less ? lane.label : `${lane.run}, epoch ${time?.[1] ?? lane.epoch}`;
    const note = drawn.note ? `: ${drawn.note}` : "";
    const label = `${cell.row.name}, ${cell.column.name}, ${when}${note}${drawn.map ? "" : ", no map"}`;
    cell.canvas.setAttribute("aria-label", label);
    if (!drawn.map) return;
    paint(cell.canvas, pixelsOf(drawn, this.state, this.standard));
    const longer = Math.max(drawn.map.width, drawn.map.height);
    cell.canvas.style.width = `${(size * drawn.map.width) / longer}px`;
    cell.canvas.classList.toggle("fine", longer > size);
  }

  fillBars() {
    for (const entry of this.bars) {
      const { column, bar, strip, ticks } = entry;
      const drawn = this.cells.find((cell) => cell.column === column && cell.drawn.map)?.drawn;
      bar.hidden = !drawn || drawn.kind === "picture";
      if (bar.hidden) continue;
      const colours = colourMap(this.standard, this.state.colours, drawn.kind);
      entry.colours = colours;
      strip.style.background = gradient(colours);
      const shared = ["column", "all"].includes(this.state.scale);
      const named = drawn.cap >= 100 || drawn.kind === "normalized" ? "max" : `p${drawn.cap}`;
      const top = shared ? brief(drawn.top) : named;
      const low = colours.low < 0;
      [low ? `−${top}` : "0", low ? "0" : "", low || drawn.kind === "positive" ? `+${top}` : top].forEach(
        (text, i) => (ticks[i].textContent = text),
      );
    }
  }

  // Shows which cell the timeline follows.
  follow(cell) {
    const [name, row, column] = cell ?? [];
    for (const { button, row: r, column: c } of this.cells)
      button.classList.toggle("followed", name === this.name && r.key === row && c.key === column);
  }

  // The maps of a canvas's row for the pointer, each with its name.
  rowOf(canvas) {
    const here = this.cells.find((cell) => cell.canvas === canvas);
    if (!here) return null;
    const lane = (cell) => (cell.column.lanes.length > 1 ? `, ${this.loaded[cell.lane].lane.label}` : "");
    return this.cells
      .filter(({ r }) => r === here.r)
      .map((cell) => ({
        canvas: cell.canvas,
        drawn: cell.drawn,
        row: cell.row.name,
        name: cell.column.name + lane(cell),
      }));
  }
}
