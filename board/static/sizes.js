// How large maps are on the screen: a whole multiple of their pixels where they are small.

const SIZES = [112, 84, 56];
const LANE_GAP = 4;
const COLUMN_GAP = 10;
const LETTER = 8;
const WIDEST_NAME = 110;
const NARROW = 500;

export const SIZE_CHOICES = [
  ["", "As fits"],
  ["56", "Small"],
  ["84", "Medium"],
  ["112", "Large"],
  ["168", "Larger"],
  ["280", "Largest"],
];

// Pixels on the screen of the longer side of a map, and the columns in blocks that stand below each
// other. `longest` is that side in pixels of the maps.
export function placed(longest, layout, state) {
  const names = Math.min(WIDEST_NAME, Math.max(24, ...layout.rows.map(({ name }) => LETTER * name.length)));
  const room = document.documentElement.clientWidth - 40 - names;
  const width = (columns, size) =>
    columns.reduce((sum, { lanes }) => sum + lanes.length * (size + LANE_GAP) + COLUMN_GAP - LANE_GAP, 0);
  const tall = layout.rows.length > 5 && window.innerWidth < 1600 ? 84 : 112;
  const sizes = SIZES.filter((size) => size <= tall).map((size) => whole(size, longest));
  const narrow = room < NARROW;
  const fitting = sizes.find((size) => width(layout.columns, size) <= room) ?? whole(narrow ? 56 : 84, longest);
  const size = state.size ? whole(Number(state.size), longest) : fitting;
  // A page as narrow as a telephone's is scrolled sideways: blocks of one or two columns would be worse.
  const fewest = narrow ? 1 : Math.max(1, Math.ceil(width(layout.columns, size) / room));
  return { size, blocks: inBlocks(layout.columns, fewest, (columns) => width(columns, size) <= room || narrow) };
}

// The columns in order, in so many blocks that are nearly equal, or in more until each of them fits.
function inBlocks(columns, count, fits) {
  const most = Math.max(1, Math.ceil(columns.length / count));
  const blocks = [];
  for (let i = 0; i < columns.length; i += most) blocks.push(columns.slice(i, i + most));
  return most === 1 || blocks.every(fits) ? blocks : inBlocks(columns, count + 1, fits);
}

// A whole multiple that is near `size`, or `size` itself for maps that are larger.
function whole(size, longest) {
  const near = longest * Math.round(size / longest);
  if (longest > size) return size;
  return near <= 1.25 * size ? near : longest * Math.floor(size / longest);
}
