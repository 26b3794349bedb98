// The frames beside one, in a clip whose rate varies: a second video of it is sought until it shows another frame.
const APART_S = 0.002; // no frame is shorter
const TOLD_MS = 500;
const TRIES = 8;
const NUDGE_S = 0.0001;

// Times are as the browser counts them; null where it tells none, or where there is no such frame.
export class Neighbours {
  constructor(url) {
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto", src: url });
    this.opened = new Promise((resolve) => {
      this.video.onloadeddata = this.video.onerror = this.video.onemptied = resolve; // emptied: by `close`
    });
  }

  close() {
    this.video.removeAttribute("src");
    this.video.load();
  }

  // When the frame begins that is shown at this moment. A busy browser may not report the frame that it sought.
  async beginOf(time_s) {
    await this.opened;
    for (let nth = 0; nth < TRIES && this.video.src; nth++) {
      const told = new Promise((resolve) => {
        const call = this.video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime));
        setTimeout(() => {
          this.video.cancelVideoFrameCallback(call);
          resolve(null);
        }, TOLD_MS * (nth + 1));
      });
      this.video.currentTime = Math.max(0, time_s + nth * NUDGE_S);
      const begin_s = await told;
      if (begin_s !== null) return begin_s;
    }
    return null;
  }

  async before(begin_s) {
    const found_s = await this.beginOf(begin_s - APART_S);
    return found_s !== null && found_s < begin_s ? found_s : null;
  }

  // `about_s`: how long a frame is shown on average.
  async after(begin_s, about_s) {
    const last_s = this.video.duration - APART_S;
    let found_s = null;
    for (let apart_s = about_s / 2; found_s === null; apart_s *= 2) {
      const at_s = Math.min(last_s, begin_s + apart_s);
      const seen_s = await this.beginOf(at_s);
      if (seen_s === null) return null;
      if (seen_s > begin_s + APART_S / 2) found_s = seen_s;
      else if (at_s === last_s) return null;
    }
    // There may be frames between the two.
    for (let seen_s = found_s; seen_s !== null && seen_s > begin_s + APART_S / 2; seen_s = await this.beginOf(seen_s - APART_S)) found_s = seen_s;
    return found_s;
  }
}
