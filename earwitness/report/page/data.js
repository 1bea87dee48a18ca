// What Python wrote into the page; unpacked once, when it is first asked for.

const read = new Map();

/** The data of a section, by its name; null where the page has none. */
export function data(name) {
  if (!read.has(name)) read.set(name, unpack(name));
  return read.get(name);
}

async function unpack(name) {
  const block = document.getElementById(`data-${name}`);
  if (!block) return null;
  const packed = await fetch(`data:application/gzip;base64,${block.textContent}`);
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).json();
}

/** Numbers that Python packed: base64 of little-endian values, of type Float32Array, Uint8Array … */
export function numbers(text, Type = Float32Array) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(bytes.buffer);
}
