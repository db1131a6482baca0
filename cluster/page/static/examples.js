/** Example queries for those who have no photo at hand: T-shirts, drawn here, searched for as photos. */

const SIDE_PX = 224;
const SHIRTS = [
  ["red", "#c0392b"],
  ["blue", "#2c5aa0"],
  ["green", "#3b7d4f"],
  ["yellow", "#e2b33c"],
  ["black", "#232326"],
];
// One half of a T-shirt, from the collar to the hem, as fractions of the side; the other half is its mirror.
const OUTLINE = [
  [0.41, 0.16],
  [0.31, 0.19],
  [0.14, 0.36],
  [0.24, 0.47],
  [0.31, 0.41],
  [0.31, 0.86],
];

function draw(canvas, colour) {
  canvas.width = canvas.height = SIDE_PX;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE_PX, SIDE_PX);
  context.fillStyle = colour;
  context.beginPath();
  const mirrored = OUTLINE.map(([x, y]) => [1 - x, y]).reverse();
  for (const [x, y] of [...OUTLINE, ...mirrored]) context.lineTo(x * SIDE_PX, y * SIDE_PX);
  context.quadraticCurveTo(0.5 * SIDE_PX, 0.28 * SIDE_PX, OUTLINE[0][0] * SIDE_PX, OUTLINE[0][1] * SIDE_PX);
  context.fill();
}

/** Fill `box` with buttons; `onChosen` gets the drawing as a PNG, and its file name. */
export function addExamples(box, onChosen) {
  for (const [name, colour] of SHIRTS) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `a drawn ${name} T-shirt`);
    button.append(canvas);
    button.addEventListener("click", () => canvas.toBlob((blob) => onChosen(blob, `${name}-t-shirt.png`)));
    draw(canvas, colour);
    box.append(button);
  }
}
