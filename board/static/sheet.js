// A sheet: a table of raw maps with names, read from the bytes of one safetensors file.

import { fromFloat16 } from "./float16.js";

export class SheetError extends Error {}

export class Sheet {
  // `about` is what the file says of itself; `tensors` finds a tensor's bytes by name.
  constructor(about, tensors, bytes) {
    this.title = String(about.title ?? "");
    this.caption = String(about.caption ?? "");
    this.about = String(about.about ?? "");
    this.epoch = about.epoch;
    this.step = about.step;
    this.rows = about.rows.map(String);
    this.columns = about.columns.map((column) => ({ ...column, name: String(column.name) }));
    this.notes = about.notes ?? null;
    this.tensors = tensors;
    this.bytes = bytes;
    this.read = new Map();
  }

  // The longest side of its maps, in their pixels.
  get longest() {
    const sides = this.columns.flatMap((_, j) => this.tensors(String(j)).shape.slice(1, 3));
    return Math.max(1, ...sides);
  }

  note(row, column) {
    const note = this.notes?.[row]?.[column];
    return note === null || note === undefined ? "" : String(note);
  }

  // The map or picture in a cell: {values, height, width, channels, picture}, or null where there is none.
  // Values of maps are Float64Array in their own unit, channel last; those of pictures bytes.
  map(row, column) {
    const key = `${row} ${column}`;
    if (!this.read.has(key)) this.read.set(key, this.decoded(row, column));
    return this.read.get(key);
  }

  decoded(row, column) {
    const about = this.columns[column];
    const place = about.rows.indexOf(row);
    if (place < 0) return null;
    const tensor = this.tensors(String(column));
    const [height, width, channels = 1] = tensor.shape.slice(1);
    const count = height * width * channels;
    const picture = about.kind === "picture";
    const numbers = tensor.entry(place, count);
    if (picture) return { values: numbers, height, width, channels, picture };
    const scale = this.tensors(`${column}.scale`).entry(place, 1)[0];
    const shares = tensor.dtype === "U8" ? fromBytes(numbers) : numbers;
    return { values: Float64Array.from(shares, (share) => share * scale), height, width, channels, picture };
  }
}

export function readSheet(buffer) {
  try {
    const view = new DataView(buffer);
    const start = 8 + Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
    const about = JSON.parse(header.__metadata__.sheet);
    if (about.version !== 1) throw new Error(`version ${about.version} is not known here`);
    const sheet = new Sheet(about, (name) => tensor(buffer, start, name, header[name]), buffer.byteLength);
    // Touched once, so that what is damaged is known here and not when it is drawn.
    sheet.columns.forEach(({ rows }, column) => rows.forEach((row) => sheet.decoded(row, column)));
    return sheet;
  } catch (error) {
    throw new SheetError(`no sheet that can be read (${error.message})`);
  }
}

const TYPES = {
  F16: [2, (bytes) => fromFloat16(new Uint16Array(bytes))],
  F32: [4, (bytes) => new Float32Array(bytes)],
  F64: [8, (bytes) => new Float64Array(bytes)],
  U8: [1, (bytes) => new Uint8Array(bytes)],
};

function tensor(buffer, start, name, about) {
  if (!about || !(about.dtype in TYPES)) throw new SheetError(`no tensor ${name} that can be read`);
  const [width, numbers] = TYPES[about.dtype];
  const [from, to] = about.data_offsets;
  return {
    shape: about.shape,
    dtype: about.dtype,
    // The numbers of the entry number `place`, which has `count` values.
    entry(place, count) {
      const first = from + place * count * width;
      if (first + count * width > to) throw new SheetError(`tensor ${name} is too short`);
      // A copy, since a typed array must begin at a multiple of its width.
      return numbers(buffer.slice(start + first, start + first + count * width));
    },
  };
}

// Reports may hold 8 bits for a value, which then are its square root: small values beside outliers stay apart.
function fromBytes(bytes) {
  return Float32Array.from(bytes, (byte) => {
    const root = (byte - 128) / 127;
    return byte === 0 ? NaN : Math.sign(root) * root * root;
  });
}
