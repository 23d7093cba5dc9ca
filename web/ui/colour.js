// Colours of frames and series. Hue follows the package, so that a package
// looks the same in every view; lightness is fixed per theme, so that text on
// any frame keeps its contrast. Pure functions, no DOM.

import { nameOf } from "./names.js";

/**
 * oklch gives a CSS colour of even perceived lightness (Ottosson's Oklab,
 * https://bottosson.github.io/posts/oklab/), clipped to sRGB.
 * @param {number} l 0…1 @param {number} c chroma @param {number} h degrees
 * @returns {string} #rrggbb
 */
function oklch(l, c, h) {
  const a = c * Math.cos((h * Math.PI) / 180);
  const b = c * Math.sin((h * Math.PI) / 180);
  const l3 = (l + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m3 = (l - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s3 = (l - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return "#" + [
    4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3,
    -1.2684380046 * l3 + 2.6097574011 * m3 - 0.3413193965 * s3,
    -0.0041960863 * l3 - 0.7034186147 * m3 + 1.707614701 * s3,
  ].map(gamma).join("");
}

/** gamma turns a linear channel into two hex digits. */
function gamma(v) {
  v = Math.min(1, Math.max(0, v));
  const s = v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055;
  return Math.round(s * 255).toString(16).padStart(2, "0");
}

/** hash is FNV-1a of a string, 32 bits, finished so that near names part. */
export function hash(s) {
  let h = 0x811c9dc5;
  for (let i = 0; i < s.length; i++) h = Math.imul(h ^ s.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The lightness and chroma of each owner's frames per theme. */
const tones = {
  light: { module: [0.845, 0.072], main: [0.81, 0.11], std: [0.88, 0.035], native: [0.80, 0.06], runtime: [0.865, 0.004], root: [0.90, 0.004] },
  dark: { module: [0.43, 0.075], main: [0.47, 0.105], std: [0.385, 0.032], native: [0.40, 0.06], runtime: [0.345, 0.006], root: [0.30, 0.006] },
};

/** Modules of a code host differ by their owner and name, not by its domain. */
function packageHue(pkg) {
  return hash(pkg) % 360;
}

/**
 * frameColour is the fill of a frame.
 * @param {string} name function @param {"light"|"dark"} theme
 */
export function frameColour(name, theme) {
  const n = nameOf(name);
  const [l, c] = tones[theme][n.owner];
  // main is always the warm colour, native code always violet; the standard library stays in the cool range.
  const hue = n.owner === "main" ? 55 : n.owner === "native" ? 310 : n.owner === "std" ? 195 + (packageHue(n.pkg) % 75) : packageHue(n.pkg);
  // A little difference between functions of a package keeps neighbours apart.
  const shade = ((hash(name) >>> 8) % 5 - 2) * 0.011;
  return oklch(l + shade, c, hue);
}

/** rootColour is the fill of the root and of pruned rests. */
export function rootColour(theme) {
  const [l, c] = tones[theme].root;
  return oklch(l, c, 250);
}

const seriesHues = [255, 55, 155, 20, 305, 200, 95, 340];

/** seriesColour is the i-th line of a timeline; past eight, grey. */
export function seriesColour(i, theme) {
  if (i >= seriesHues.length) return theme === "dark" ? "#8a929c" : "#868e96";
  return theme === "dark" ? oklch(0.74, 0.13, seriesHues[i]) : oklch(0.58, 0.15, seriesHues[i]);
}

/**
 * contrast is the WCAG ratio between two #rrggbb colours.
 * @returns {number} 1…21
 */
export function contrast(a, b) {
  const lum = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
}
