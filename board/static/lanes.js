// Lanes: what stands side by side within each column. A lane is a run at an epoch, or a difference.

// Readers tell these apart whatever colours they see (M. Okabe, K. Ito, "Color universal design", 2008).
const MARKS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

export function markOf(runs, run) {
  return MARKS[Math.max(0, runs.indexOf(run)) % MARKS.length];
}

// The runs that are shown: the chosen ones, else two where there are two, else the newest.
export function shownRuns(index, state) {
  const names = index.runs.map(({ name }) => name);
  const chosen = (state.runs ?? []).filter((name) => names.includes(name));
  if (chosen.length) return names.filter((name) => chosen.includes(name));
  return names.length <= 2 ? names : names.slice(-1);
}

// The epochs at which one of these runs was explained, ascending.
export function epochsOf(index, runs) {
  const epochs = new Set();
  for (const run of index.runs)
    if (runs.includes(run.name)) for (const [, epoch] of run.times) epochs.add(epoch);
  return [...epochs].sort((a, b) => a - b);
}

// The entry of `epochs` that is nearest to what the state says; the last by default.
export function currentEpoch(epochs, wanted) {
  if (wanted === null) return epochs.at(-1);
  return epochs.reduce((best, epoch) =>
    Math.abs(epoch - wanted) < Math.abs(best - wanted) ? epoch : best,
  );
}

// [step, epoch] of the last sheet of that name which a run has at an epoch or before, else null.
export function timeAt(index, run, sheet, epoch) {
  let found = null;
  for (const time of timesOf(index, run, sheet))
    if (time[1] <= epoch && (!found || time[1] >= found[1])) found = time;
  return found;
}

export function timesOf(index, run, sheet) {
  const about = index.runs.find(({ name }) => name === run);
  return (about?.sheets[sheet] ?? []).map((i) => about.times[i]);
}

// What stands side by side. A lane is {key, run, epoch, label, mark}; one that is a difference has
// `less`, the lane that is taken away.
export function lanesOf(runs, epoch, against, wanted) {
  const several = runs.length > 1;
  const of = (run) => (several ? `${shortName(runs, run)}, ` : "");
  const at = (run, when) => ({
    key: `${run}@${when === against ? "against" : "now"}`,
    run,
    epoch: when,
    mark: markOf(runs, run),
    label: against === null ? shortName(runs, run) : `${of(run)}epoch ${when}`,
  });
  const minus = (lane, less, label) => ({ ...lane, key: `${lane.key}-${less.key}`, less, label });
  const plainLanes = [];
  const differences = [];
  for (const run of runs) {
    const now = at(run, epoch);
    if (against !== null && against !== epoch) {
      const then = at(run, against);
      plainLanes.push(then);
      differences.push(minus(now, then, `${of(run)}epoch ${epoch} − ${against}`));
    }
    plainLanes.push(now);
  }
  if (against === null && several) {
    const [first, ...others] = plainLanes;
    for (const lane of others) differences.push(minus(lane, first, `${lane.label} − ${first.label}`));
  }
  if (wanted === "only" && differences.length) return differences;
  return wanted === "beside" ? [...plainLanes, ...differences] : plainLanes;
}

// The name of a run without the folders that all shown runs share, at its beginning and at its end.
export function shortName(runs, run) {
  if (runs.length < 2) return run;
  const paths = runs.map((name) => name.split("/"));
  const most = Math.min(...paths.map(({ length }) => length)) - 1;
  const shared = (place) => {
    let same = 0;
    while (same < most && paths.every((path) => path.at(place(same)) === paths[0].at(place(same)))) same++;
    return same;
  };
  const start = shared((i) => i);
  const end = Math.min(shared((i) => -1 - i), most - start);
  const parts = run.split("/");
  return parts.slice(start, parts.length - end).join("/");
}
