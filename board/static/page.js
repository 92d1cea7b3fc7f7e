// The page: keeps the index, the state and the views in step.

import { element } from "./dom.js";
import { Address } from "./address.js";
import { CloseUp } from "./closeup.js";
import { currentEpoch, epochsOf, lanesOf, shownRuns } from "./lanes.js";
import { DEFAULTS, Store, fromTexts, toTexts } from "./state.js";
import { Loader } from "./loader.js";
import { Notices } from "./notices.js";
import { Pointer } from "./pointer.js";
import { Section, familyOf } from "./sections.js";
import { SheetView } from "./sheet_view.js";
import { mostTelling } from "./telling.js";
import { Timeline } from "./timeline.js";
import { Toolbar } from "./toolbar.js";
import { listenToKeys } from "./keyboard.js";
import { saveView } from "./files.js";

// Milliseconds.
const REST = 250;
const PATIENCE = 50;
const MOST_IN_REST = 12;

export class Page {
  constructor(source, index) {
    this.loader = new Loader(source);
    this.source = source;
    const standard = { ...index.colours, gap: index.gap };
    this.standard = standard;
    this.index = index;
    this.address = new Address();
    this.store = new Store(fromTexts(this.address.read()));
    this.views = new Map();
    this.sections = new Map();
    this.near = new Set();
    this.scalars = {};
    this.trouble = "";
    this.telling = null;
    const choose = (changes) => this.choose(changes);
    this.pointer = new Pointer();
    this.notices = new Notices();
    this.timeline = new Timeline(this.loader, standard, choose);
    this.toolbar = new Toolbar(this.state, choose, {
      PNG: () =>
        saveView(`explanations_epoch${this.epoch}`, this.shownViews(), `Epoch ${this.epoch}`),
      Link: (event) => this.copyLink(event.target),
      Reset: () => this.choose({ ...DEFAULTS }),
    });
    this.closeup = new CloseUp(this.loader, standard, this.pointer, (changes) =>
      changes.by ? this.timeline.go(changes.by) : this.choose(changes),
    );
    this.main = element("main", {});
    this.observer = new IntersectionObserver((entries) => this.seen(entries), { rootMargin: "400px" });
  }

  get state() {
    return this.store.state;
  }

  start(root) {
    const { toolbar, timeline, notices, closeup } = this;
    root.append(toolbar.root, timeline.root, notices.root, this.main, closeup.root, this.pointer.tip);
    listenToKeys(this.timeline);
    this.address.listen((texts) => this.choose(fromTexts(texts)));
    this.store.listen((state) => this.address.write(toTexts(state)));
    new ResizeObserver(() => this.resized()).observe(this.timeline.root);
    this.takeIndex(this.index);
  }

  resized() {
    if (!this.timeline.root.offsetWidth) return; // Another tab of the host is in front.
    document.documentElement.style.setProperty("--bar", `${this.timeline.root.offsetHeight}px`);
    if (this.index.runs.length) this.update();
  }

  choose(changes) {
    this.store.set(changes);
    return this.update();
  }

  // A new index: more epochs, other runs. Who stands at the end follows it.
  takeIndex(given) {
    // A run that has only just begun has nothing to show yet.
    const index = { ...given, runs: given.runs.filter(({ times }) => times.length) };
    this.index = index;
    this.loader.index = index;
    const some = index.runs.length > 0;
    this.toolbar.root.hidden = this.timeline.root.hidden = !some;
    this.notices.show(index, this.trouble);
    this.takeScalars();
    return some ? this.update() : this.main.replaceChildren();
  }

  async takeScalars() {
    const runs = this.shownRuns();
    await Promise.all(
      runs.map(async (run) => {
        this.scalars[run] = await this.source.scalars(run).catch(() => this.scalars[run] ?? {});
      }),
    );
    this.update();
  }

  shownRuns() {
    return shownRuns(this.index, this.state);
  }

  shownViews() {
    return [...this.views.values()].filter(({ root }) => root.isConnected);
  }

  // One after the other, and the newest wish last: a slider that is dragged never waits in a queue.
  update() {
    this.wanted = true;
    this.updating ??= this.updates().finally(() => (this.updating = null));
    return this.updating;
  }

  async updates() {
    this.main.ariaBusy = "true";
    while (this.wanted) {
      this.wanted = false;
      if (this.index.runs.length) await this.updateOnce();
    }
    this.main.ariaBusy = "false";
  }

  async updateOnce() {
    const started = performance.now();
    const runs = this.shownRuns();
    const entries = this.index.runs.filter(({ name }) => runs.includes(name));
    const missing = runs.some((run) => !(run in this.scalars));
    this.epochs = epochsOf(this.index, runs);
    this.epoch = currentEpoch(this.epochs, this.state.epoch);
    this.lanes = lanesOf(runs, this.epoch, this.against(), this.state.difference);
    this.timeline.show(this.epochs, this.epoch, entries);
    this.arrange();
    const near = [...this.near].filter((name) => this.views.get(name)?.root.isConnected);
    await Promise.all(near.map((name) => this.draw(name)));
    this.finish(runs, entries);
    performance.measure("firstlight:move", { start: started, end: performance.now() });
    await this.open();
    this.ahead(near);
    this.drawRest(near);
    if (missing) {
      for (const run of runs) this.scalars[run] ??= {};
      this.takeScalars();
    }
  }

  against() {
    return this.state.against === null ? null : currentEpoch(this.epochs, this.state.against);
  }

  // The sections and sheets that the shown runs have, hidden ones left out.
  arrange() {
    const names = this.sheetNames().filter((name) => !this.state.sheets.includes(name));
    for (const name of names) if (!this.views.has(name)) this.addView(name);
    const families = [...new Set(names.map(familyOf))];
    for (const family of families)
      if (!this.sections.has(family)) this.sections.set(family, new Section(family));
    const roots = families.map((family) => this.sections.get(family).root);
    if (roots.length !== this.main.children.length || roots.some((root, i) => this.main.children[i] !== root))
      this.main.replaceChildren(...roots);
    for (const family of families) {
      const own = names.filter((name) => familyOf(name) === family);
      this.sections.get(family).show(own.map((name) => this.views.get(name)));
    }
  }

  sheetNames() {
    const runs = this.shownRuns();
    const shown = this.index.runs.filter(({ name }) => runs.includes(name));
    const names = shown.flatMap(({ sheets }) => Object.keys(sheets));
    return [...new Set(names)].sort();
  }

  addView(name) {
    const view = new SheetView(name, this.standard, (sheet, row, column) =>
      this.choose({ cell: [sheet, row, column], open: true }),
    );
    this.views.set(name, view);
    this.observer.observe(view.root);
    this.pointer.watch(view.tables, (canvas) => view.rowOf(canvas));
  }

  seen(entries) {
    let more = false;
    for (const { target, isIntersecting } of entries) {
      const name = target.dataset.sheet;
      if (isIntersecting) more ||= !this.near.has(name);
      this.near[isIntersecting ? "add" : "delete"](name);
    }
    if (more) this.update();
  }

  async draw(name) {
    const having = this.index.runs.filter(({ sheets }) => sheets[name]).map((run) => run.name);
    const wanted = this.lanes.filter(({ run }) => having.includes(run));
    const loaded = await Promise.all(wanted.map((lane) => this.loader.lane(lane, name)));
    const runs = [...new Set(wanted.map(({ run }) => run))];
    const tops = this.state.scale === "epochs" ? await this.topsSoon(runs, name) : null;
    this.views.get(name).draw(loaded, this.state, tops);
  }

  // The scale over all epochs, null while they are still being read.
  async topsSoon(runs, name) {
    const tops = this.loader.epochTops(runs, name, this.state);
    const soon = new Promise((done) => setTimeout(done, PATIENCE, null));
    const found = await Promise.race([tops, soon]);
    if (!found) tops.then(() => this.update());
    return found;
  }

  // What depends on what the sheets turned out to hold.
  finish(runs, entries) {
    this.arrange();
    const views = this.shownViews();
    const found = (kind) => views.flatMap((view) => view.layout.names[kind]);
    const all = (kind) => [...new Set([...found(kind), ...this.state[kind]])];
    const names = { sheets: this.sheetNames(), rows: all("rows"), columns: all("columns") };
    this.toolbar.show(this.state, this.epochs, this.index.runs.map(({ name }) => name), runs, names);
    this.timeline.showChart(this.scalars, this.state, entries);
    const cell = this.state.cell ?? this.usualCell(runs[0]);
    this.timeline.showFilm(runs, cell, this.state);
    for (const view of views) view.follow(cell);
    this.timeline.show(this.epochs, this.epoch, entries);
  }

  // What the film shows by default; found once there is a beginning and an end to compare.
  usualCell(run) {
    const key = `${run} ${Math.min(this.epochs.length, 3)}`;
    if (this.tellingKey !== key) {
      this.tellingKey = key;
      mostTelling(this.loader, run, this.sheetNames()).then((cell) => {
        this.telling = cell;
        this.update();
      });
    }
    return this.telling;
  }

  async open() {
    const { cell, open } = this.state;
    if (!open || !cell) return this.closeup.hide();
    const loaded = await Promise.all(this.lanes.map((lane) => this.loader.lane(lane, cell[0])));
    await this.closeup.show(loaded, cell, this.state, this.epochs, this.epoch);
  }

  // What is not on the screen follows once the slider rests, where there is not too much of it.
  drawRest(drawn) {
    clearTimeout(this.resting);
    this.resting = setTimeout(async () => {
      const rest = this.shownViews().filter(({ name }) => !drawn.includes(name));
      for (const { name } of rest.slice(0, MOST_IN_REST)) {
        if (this.updating) return; // It ends with a rest of its own.
        await this.draw(name);
      }
    }, REST);
  }

  ahead(near) {
    const at = this.epochs.indexOf(this.epoch);
    const next = [at + 1, at - 1, at + 2].map((i) => this.epochs[i]).filter((epoch) => epoch !== undefined);
    for (const name of near) for (const lane of this.lanes) if (!lane.less) this.loader.ahead(lane, name, next);
  }

  async copyLink(button) {
    this.address.replace(toTexts(this.state));
    const text = button.textContent;
    try {
      await navigator.clipboard.writeText(this.address.link);
      button.textContent = "Copied";
    } catch {
      button.textContent = "It is in the address bar";
    }
    setTimeout(() => (button.textContent = text), 1500);
  }
}
