// A clip and one or two masks in step: of the frames that each has shown lately, the newest that all have, by their times.
const KEPT = 4; // textures of each video; more than one lags behind the other by
const NUDGE_S = 0.03;
const JUMP_S = 0.3;
const MISSED_MS = 250;
const AGAIN_S = 0.0005; // less than what a frame that is sought by its begin may be off by

class Track {
  constructor(compositor, onFrame) {
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
    this.compositor = compositor;
    this.frames = []; // { time_s, texture, reported }, the newest last
    this.onFrame = onFrame;
    this.offset_s = 0; // of the video's own time at the pair's zero
    this.first_s = null; // the video's own time of the first frame that it has reported
    this.kept = 0;
    this.asksAgain = false; // the browser seeks once more, since it did not report the frame
    this.abandon = () => {};
    let before = null; // what was kept when the seek began: the frame that is sought is often reported before its end
    this.video.addEventListener("seeking", () => {
      before = { kept: this.kept, time_s: this.frames.at(-1)?.time_s };
    });
    this.video.addEventListener("seeked", () => {
      onFrame();
      const { kept, time_s } = before;
      setTimeout(() => {
        if (this.seeking || !this.video.paused || !this.loaded) return;
        const isReported = this.kept !== kept;
        const isSought = isReported && (this.asksAgain || this.frames.at(-1)?.time_s !== time_s); // else late, of the frame before
        if (isSought) return;
        if (!this.asksAgain) {
          this.asksAgain = true;
          this.video.currentTime += AGAIN_S; // a busy browser may not report the frame that it sought
          return;
        }
        this.keep(this.now_s, false);
        onFrame();
      }, MISSED_MS);
    });
    const next = (_, { mediaTime }) => {
      this.first_s = Math.min(this.first_s ?? mediaTime, mediaTime);
      this.keep(mediaTime - this.offset_s, true);
      this.video.requestVideoFrameCallback(next);
      onFrame();
    };
    this.video.requestVideoFrameCallback(next);
  }

  // `reported`: the browser gave the frame's own time; else `time_s` is any moment inside the frame.
  keep(time_s, reported) {
    const texture = this.frames.length < KEPT ? this.compositor.texture() : this.frames.shift().texture;
    this.compositor.load(texture, this.video);
    this.frames.push({ time_s, texture, reported });
    this.kept += 1;
  }

  get loaded() {
    return this.video.src !== "";
  }

  // A video that is closed while it seeks tells of no end; it says itself that it seeks no longer.
  get seeking() {
    return this.video.seeking;
  }

  get now_s() {
    return this.video.currentTime - this.offset_s;
  }

  set now_s(time_s) {
    this.asksAgain = false;
    this.video.currentTime = time_s + this.offset_s;
  }

  // The video's time at the pair's zero is another one now.
  rebase(offset_s) {
    for (const frame of this.frames) frame.time_s += this.offset_s - offset_s;
    this.offset_s = offset_s;
  }

  // The video once it has a picture; null where it was closed, or opened anew, before.
  open(url) {
    this.abandon();
    return new Promise((resolve, reject) => {
      this.abandon = () => resolve(null);
      this.video.onloadeddata = () => resolve(this.video);
      this.video.onerror = () => {
        this.close();
        reject(new Error("This browser cannot play it."));
      };
      this.video.src = url;
    });
  }

  close() {
    this.abandon();
    this.video.onerror = null;
    this.video.removeAttribute("src");
    this.video.load();
    for (const { texture } of this.frames.splice(0)) this.compositor.drop(texture);
    this.offset_s = 0;
    this.first_s = null;
  }
}

export class Pair {
  // `onShow(time_s, reported)` hears of every frame that is drawn.
  constructor(compositor, onShow) {
    this.compositor = compositor;
    this.onShow = onShow;
    this.source = new Track(compositor, () => this.plan());
    this.mask = new Track(compositor, () => this.plan());
    this.other = new Track(compositor, () => this.plan()); // the mask of another result
    this.tolerance_s = 0.004;
    this.shown = null;
    this.still = null; // the textures of a picture and its mask
    this.wanted_s = null;
    this.from_s = 0; // what is played
    this.until_s = Infinity;
    this.planned = false;
    this.looping = true;
    this.playing = false; // as asked for; a video that has ended says that it is paused
    /** @type {(time_s: number) => WebGLTexture | null} */
    this.insteadOfMask = () => null;
    for (const track of [this.source, this.mask, this.other])
      track.video.addEventListener("ended", () => this.leader === track && this.atEnd());
  }

  get leader() {
    return this.source.loaded ? this.source : this.mask;
  }

  get tracks() {
    return [this.source, this.mask, this.other].filter((track) => track.loaded);
  }

  plan() {
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.draw();
    });
  }

  // Draws anew though no frame came: the settings are others.
  refresh() {
    this.stale = true;
    this.plan();
  }

  redraw() {
    this.compositor.draw(this.shown.source, this.insteadOfMask(this.shown.time_s) ?? this.shown.mask, this.shown.other);
  }

  draw() {
    if (this.playing && this.leader.now_s >= this.until_s && !this.leader.seeking) this.atEnd();
    const found = this.match();
    const fresh = found && (found.time_s !== this.shown?.time_s || ["source", "mask", "other"].some((name) => found[name] !== this.shown[name]));
    if (fresh) this.shown = found;
    if (this.shown && (fresh || this.stale)) this.redraw();
    if (fresh) this.onShow(found.time_s, found.reported);
    this.stale = false;
    this.keepInStep();
    if (this.wanted_s !== null && this.tracks.every((track) => !track.seeking)) this.seek(this.wanted_s);
  }

  // The newest frames that belong together; where pictures at rest differ by rounding, they still do.
  match() {
    const { tracks } = this;
    const [first, ...followers] = tracks;
    for (const ours of first?.frames.toReversed() ?? []) {
      const theirs = followers.map((track) => track.frames.findLast(({ time_s }) => Math.abs(ours.time_s - time_s) <= this.tolerance_s));
      if (theirs.every(Boolean)) return this.together([ours, ...theirs]);
    }
    const last = tracks.map((track) => track.frames.at(-1));
    const atRest = tracks.every((track) => track.video.paused && !track.seeking);
    return last.length && last.every(Boolean) && atRest && !this.playing ? this.together(last) : null;
  }

  // One frame of each track, in their order, as what is drawn.
  together(frames) {
    const of = (track) => frames[this.tracks.indexOf(track)]?.texture ?? null;
    return { ...frames[0], source: of(this.source), mask: of(this.mask), other: of(this.other) };
  }

  // Each mask follows the source: a little faster or slower, or by a jump.
  keepInStep() {
    if (!this.playing) return;
    const [leader, ...followers] = this.tracks;
    for (const track of followers) {
      const [ours, theirs] = [leader.video, track.video];
      const late_s = leader.now_s - track.now_s;
      if (Math.abs(late_s) > JUMP_S && !track.seeking && !ours.ended) track.now_s = leader.now_s;
      theirs.playbackRate = ours.playbackRate * (Math.abs(late_s) < NUDGE_S ? 1 : late_s > 0 ? 1.1 : 0.9);
      if (theirs.paused && !theirs.ended) theirs.play().catch(() => {});
    }
  }

  async play() {
    this.playing = true;
    const { video, now_s } = this.leader;
    if (video.ended || now_s >= this.until_s || now_s < this.from_s) this.jump(this.from_s);
    await Promise.all(this.tracks.map((track) => track.video.play().catch(() => {})));
  }

  // Stops both where they are; `pause` also brings them to the frame that is shown.
  stop() {
    this.playing = false;
    for (const { video } of this.tracks) video.pause();
  }

  pause() {
    this.stop();
    if (this.tracks.length > 1 && this.shown) this.seek(this.shown.time_s + this.tolerance_s);
  }

  atEnd() {
    if (!this.playing) return; // somebody has stopped it in this very moment
    if (this.looping) this.play();
    else this.stop();
  }

  // While one seek is under way the next ones wait, and only the last of them is done.
  seek(time_s) {
    this.wanted_s = time_s;
    if (this.tracks.some((track) => track.seeking)) return;
    this.wanted_s = null;
    this.jump(time_s);
  }

  jump(time_s) {
    for (const track of this.tracks) track.now_s = time_s;
  }

  close() {
    this.shown = null;
    this.wanted_s = null;
    this.playing = false;
    this.from_s = 0;
    this.until_s = Infinity;
    for (const track of this.tracks) track.close();
    for (const texture of this.still ?? []) this.compositor.drop(texture);
    this.still = null;
  }

  // A picture and its mask: nothing plays.
  showStill(picture, mask) {
    const [source, theirs] = [picture, mask].map((pixels) => {
      const texture = this.compositor.texture();
      this.compositor.load(texture, pixels);
      return texture;
    });
    this.still = [source, theirs];
    this.shown = { time_s: 0, reported: false, source, mask: theirs, other: null };
    this.refresh();
  }

  // The other result goes.
  closeOther() {
    if (this.shown) this.shown = { ...this.shown, other: null };
    this.other.close();
  }
}
