// The spectrogram and the strips of attention, on canvases.

// black, violet, red, orange, pale yellow: dark to light, so that it reads without colour too
const STOPS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

function colour(level) {
  const at = (level / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((value, part) => value + (at - low) * (STOPS[low + 1][part] - value));
}

export function drawSpectrogram(canvas, { columns, mels, levels }) {
  const bytes = Uint8Array.from(atob(levels), (letter) => letter.charCodeAt(0));
  canvas.width = columns;
  canvas.height = mels;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, mels);
  for (let column = 0; column < columns; column += 1) {
    for (let mel = 0; mel < mels; mel += 1) {
      const at = 4 * ((mels - 1 - mel) * columns + column); // low frequencies below
      image.data.set([...colour(bytes[column * mels + mel]), 255], at);
    }
  }
  context.putImageData(image, 0, 0);
}

// strongest: the weight that has the full colour, the same for all words of a caption
export function drawStrip(canvas, weights, strongest) {
  const rgb = getComputedStyle(document.documentElement).getPropertyValue("--strip");
  canvas.width = weights.length;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  weights.forEach((weight, column) => {
    context.fillStyle = `rgba(${rgb}, ${weight / strongest})`;
    context.fillRect(column, 0, 1, 1);
  });
}
