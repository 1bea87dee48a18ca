// Words of captions: which one system alone says, and how much systems disagree.

const WORD = /[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu;

/** The distinct words of a caption, in lower case. */
export const words = (caption) => new Set((caption ?? "").toLowerCase().match(WORD) ?? []);

/** A caption in pieces, those words that no other caption has marked: [[text, isAlone], …]. */
export function pieces(caption, others) {
  const known = new Set(others.flatMap((other) => [...words(other)]));
  const found = [];
  let end = 0;
  for (const match of caption.matchAll(WORD)) {
    if (others.length && !known.has(match[0].toLowerCase())) {
      found.push([caption.slice(end, match.index), false], [match[0], true]);
      end = match.index + match[0].length;
    }
  }
  found.push([caption.slice(end), false]);
  return found.filter(([text]) => text);
}

/**
 * 1 − the words that two of the captions share on average, of those that one has on average:
 * 0 where all say the same, 1 where no two share a word; null with fewer than two captions.
 */
export function disagreement(captions) {
  const sets = captions.filter((caption) => typeof caption === "string").map(words);
  if (sets.length < 2) return null;
  const counts = new Map();
  for (const set of sets) for (const word of set) counts.set(word, (counts.get(word) ?? 0) + 1);
  const length = sets.reduce((sum, set) => sum + set.size, 0) / sets.length;
  if (!length) return 0;
  const pairs = (n) => (n * (n - 1)) / 2;
  const shared = [...counts.values()].reduce((sum, n) => sum + pairs(n), 0) / pairs(sets.length);
  return 1 - shared / length;
}
