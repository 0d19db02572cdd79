// A canvas as sharp as its screen. Its size is observed, never asked for while painting: that would make the browser lay out anew.
export const FONT = 'system-ui, "DejaVu Sans", sans-serif';

export class Surface {
  /** `stale` is called when everything must be painted again. */
  constructor(canvas, stale) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.wide = this.high = 0;
    new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (width === this.wide && height === this.high) return;
      this.resize(width, height);
      stale();
    }).observe(canvas);
  }

  resize(wide, high) {
    const ratio = globalThis.devicePixelRatio || 1;
    this.wide = wide;
    this.high = high;
    this.canvas.width = Math.max(1, Math.round(wide * ratio));
    this.canvas.height = Math.max(1, Math.round(high * ratio));
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  clear() {
    this.pen.clearRect(0, 0, this.wide, this.high);
  }

  text(words, x, y, colour, align = "left", font = `12px ${FONT}`) {
    const pen = this.pen;
    pen.font = font;
    pen.fillStyle = colour;
    pen.textAlign = align;
    pen.textBaseline = "middle";
    pen.fillText(words, x, y);
  }
}
