// Draws one frame from the textures of the source and of one or two masks: the only home of WebGL.
import { partsToKeep } from "./parts.js";

export const VIEWS = ["source", "mask", "cutout", "overlay"];
export const BACKINGS = ["checker", "colour", "picture", "blur", "original"];

// What is done to a mask before it is used, in the order of the service: src/foremask/options.py, Matte.
export const NEUTRAL = { invert: false, black: 0, white: 1, gamma: 1, min_part_px: 0, grow_px: 0, feather_px: 0, despill: "none" };
export const DIMMED = 0.35;
export const BLUR_PX = 24;
const COARSE_PX = 640; // the longer side of the grid on which small parts are looked for
const BLUR_GRID = 4; // a blurred background is computed at a quarter of the size
const DESPILLS = ["none", "green", "blue"];

const VERTEX = `#version 300 es
out vec2 at;
void main() {
  at = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(at * 2.0 - 1.0, 0.0, 1.0);
}`;

const HEAD = `#version 300 es
precision highp float;
in vec2 at;
out vec4 shown;
`;

const POINTS = `${HEAD}
uniform sampler2D mask;
uniform float invert, black, white, gamma;
void main() {
  float alpha = abs(invert - texture(mask, at).r);
  shown = vec4(vec3(pow(clamp((alpha - black) / (white - black), 0.0, 1.0), 1.0 / gamma)), 1.0);
}`;

// The greatest and the mean alpha of each cell of a coarser grid.
const COARSE = `${HEAD}
uniform sampler2D mask;
uniform vec2 pixel;
uniform float factor;
void main() {
  float most = 0.0, sum = 0.0;
  vec2 first = floor(gl_FragCoord.xy) * factor + 0.5;
  for (float y = 0.0; y < 16.0; y++) {
    if (y >= factor) break;
    for (float x = 0.0; x < 16.0; x++) {
      if (x >= factor) break;
      vec2 place = (first + vec2(x, y)) * pixel;
      float alpha = max(place.x, place.y) < 1.0 ? texture(mask, place).r : 0.0;
      most = max(most, alpha);
      sum += alpha;
    }
  }
  shown = vec4(most, sum / (factor * factor), 0.0, 1.0);
}`;

const KEEP = `${HEAD}
uniform sampler2D mask, kept;
uniform float factor;
void main() {
  shown = texture(mask, at) * texelFetch(kept, ivec2(gl_FragCoord.xy / factor), 0).r;
}`;

// The greatest alpha within a disc, mixed between whole radii; a negative radius grows the background.
const GROW = `${HEAD}
uniform sampler2D mask;
uniform vec2 pixel;
uniform float grow;
void main() {
  float inverted = grow < 0.0 ? 1.0 : 0.0, radius = floor(abs(grow));
  float inner = 0.0, outer = 0.0;
  for (float y = -11.0; y <= 11.0; y++) {
    if (abs(y) > radius + 1.0) continue;
    for (float x = -11.0; x <= 11.0; x++) {
      float far = x * x + y * y;
      if (far > (radius + 1.0) * (radius + 1.0)) continue;
      float alpha = abs(inverted - texture(mask, at + vec2(x, y) * pixel).r);
      outer = max(outer, alpha);
      if (far <= radius * radius) inner = max(inner, alpha);
    }
  }
  shown = vec4(vec3(abs(inverted - mix(inner, outer, abs(grow) - radius))), 1.0);
}`;

const BLUR = `${HEAD}
uniform sampler2D mask;
uniform vec2 pixel;
uniform float sigma;
void main() {
  vec4 sum = vec4(0.0);
  float total = 0.0;
  for (float step = -40.0; step <= 40.0; step++) {
    if (abs(step) > 3.0 * sigma + 1.0) continue;
    float weight = exp(-0.5 * step * step / (sigma * sigma));
    sum += weight * texture(mask, at + step * pixel);
    total += weight;
  }
  shown = sum / total;
}`;

// The background alone, weighted by how much of it shows: its subject does not glow when it is blurred.
const BEHIND = `${HEAD}
uniform sampler2D source, mask;
void main() {
  float weight = max(1.0 - texture(mask, at).r, 0.004);
  shown = vec4(texture(source, at).rgb * weight, weight);
}`;

const SHOW = `${HEAD}
uniform sampler2D source, mask, other, picture, behind;
uniform int view, backing, despill, against;
uniform float wipe, line;
uniform vec3 colour;
uniform vec2 size, cover;
// Left of the wipe is another result, where there is one.
float alphaAt(vec2 place) {
  return at.x < wipe && against == 1 ? texture(other, place).r : texture(mask, place).r;
}
void main() {
  vec2 place = vec2(at.x, 1.0 - at.y);
  vec3 below = texture(source, place).rgb;
  float alpha = alphaAt(place);
  vec3 seen = below;
  if (view == 1) seen = vec3(alpha);
  if (view == 2) {
    vec2 cell = floor(at * size / 16.0);
    vec3 back = vec3(mod(cell.x + cell.y, 2.0) < 1.0 ? 0.36 : 0.5);
    if (backing == 1) back = colour;
    if (backing == 2) back = texture(picture, (place - 0.5) * cover + 0.5).rgb;
    if (backing == 3) { vec4 sum = texture(behind, place); back = sum.rgb / sum.a; }
    if (backing == 4) back = below * ${DIMMED};
    vec3 front = below;
    if (despill == 1) front.g = min(front.g, max(front.r, front.b));
    if (despill == 2) front.b = min(front.b, max(front.r, front.g));
    seen = mix(back, front, alpha);
  }
  if (view == 3) { // what is not the subject is dark, and the outline is white beside black: seen on any colour
    float nearest = 0.0, near = 0.0;
    for (float y = -2.0; y <= 2.0; y++) for (float x = -2.0; x <= 2.0; x++) {
      float there = alphaAt(place + vec2(x, y) * line / size);
      near = max(near, there);
      if (max(abs(x), abs(y)) < 2.0) nearest = max(nearest, there);
    }
    seen = below * mix(0.42, 1.0, alpha);
    if (alpha < 0.5 && near >= 0.5) seen = vec3(nearest >= 0.5 ? 1.0 : 0.0);
  }
  shown = vec4(at.x < wipe && against == 0 ? below : seen, 1.0);
}`;

const PASSES = { points: POINTS, coarse: COARSE, keep: KEEP, grow: GROW, blur: BLUR, behind: BEHIND, show: SHOW };
const UNITS = { source: 0, mask: 1, picture: 2, behind: 4, other: 5, kept: 6 }; // 3 is where textures are made

class Pass {
  constructor(gl, text) {
    this.gl = gl;
    this.program = gl.createProgram();
    for (const [kind, lines] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, text]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, lines);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    this.places = null;
  }

  // Asks for what was compiled, which waits until it is.
  prepare() {
    const { gl } = this;
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(this.program));
    this.places = {};
    for (let index = 0; index < gl.getProgramParameter(this.program, gl.ACTIVE_UNIFORMS); index++) {
      const { name } = gl.getActiveUniform(this.program, index);
      this.places[name] = gl.getUniformLocation(this.program, name);
    }
    gl.useProgram(this.program);
    for (const [name, unit] of Object.entries(UNITS)) if (this.places[name]) gl.uniform1i(this.places[name], unit);
  }

  // `numbers`: whole ones of `ints`, all others as floats, vectors as arrays. `target` null is the canvas.
  run(target, /** @type {number[]} */ [width, height], textures, numbers, ints = {}) {
    if (!this.places) this.prepare();
    const { gl, places } = this;
    gl.useProgram(this.program);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target?.frame ?? null);
    for (const [name, texture] of Object.entries(textures)) {
      gl.activeTexture(gl.TEXTURE0 + UNITS[name]);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    }
    for (const [name, value] of Object.entries(numbers)) {
      if (!Array.isArray(value)) gl.uniform1f(places[name], value);
      else if (value.length === 2) gl.uniform2fv(places[name], value);
      else gl.uniform3fv(places[name], value);
    }
    for (const [name, value] of Object.entries(ints)) gl.uniform1i(places[name], value);
    gl.viewport(0, 0, width, height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

export class Compositor {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser has no WebGL, which the player draws with.");
    this.canvas = canvas;
    this.gl = gl;
    const named = gl.getExtension("WEBGL_debug_renderer_info");
    this.slow = /swiftshader|llvmpipe|basic render/i.test(named ? gl.getParameter(named.UNMASKED_RENDERER_WEBGL) : ""); // the processor draws
    this.settings = { view: 2, backing: 1, wipe: 0.5, line: 1, colour: [0.12, 0.48, 0.3], matte: { ...NEUTRAL } };
    this.pictureAspect = 1;
    this.passes = {};
    this.kept = null;
    this.blank = this.texture();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([0, 0, 0, 255]));
    this.picture = this.blank;
    this.targets = {};
  }

  // Compiled when it is first needed: five at once would hold the page up.
  pass(name) {
    return (this.passes[name] ??= new Pass(this.gl, PASSES[name]));
  }

  texture() {
    const { gl } = this;
    const made = gl.createTexture();
    gl.activeTexture(gl.TEXTURE3);
    gl.bindTexture(gl.TEXTURE_2D, made);
    for (const axis of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, axis, gl.CLAMP_TO_EDGE);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
    return made;
  }

  // A texture that a pass draws into, kept for its name until another size is wanted.
  target(name, width, height) {
    const { gl } = this;
    const kept = this.targets[name];
    if (kept?.width === width && kept.height === height) return kept;
    if (kept) {
      gl.deleteTexture(kept.texture);
      gl.deleteFramebuffer(kept.frame);
    }
    const texture = this.texture();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return (this.targets[name] = { texture, frame, width, height });
  }

  // Copies what a video or picture shows now into a texture.
  load(texture, pixels) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE3);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  }

  drop(texture) {
    this.gl.deleteTexture(texture);
  }

  get hasPicture() {
    return this.picture !== this.blank;
  }

  setPicture(pixels) {
    if (this.picture === this.blank) this.picture = this.texture();
    this.load(this.picture, pixels);
    this.pictureAspect = pixels.width / pixels.height;
  }

  setSize(width, height) {
    const most = this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
    const scale = Math.min(1, most / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
  }

  // The mask after the matte tools; at their neutral values it is the mask itself. `whose` tells two masks apart.
  matted(mask, whose = "") {
    const { width, height } = this.canvas;
    const { matte } = this.settings;
    const size = [width, height];
    const pixel = [1 / width, 1 / height];
    const through = (name, pass, numbers, more = {}) => {
      const made = this.target(`${whose}${name}`, width, height);
      this.pass(pass).run(made, size, { mask, ...more }, numbers);
      mask = made.texture;
    };
    if (matte.invert || matte.black > 0 || matte.white < 1 || matte.gamma !== 1)
      through("points", "points", { invert: Number(matte.invert), black: matte.black, white: matte.white, gamma: matte.gamma });
    if (matte.min_part_px) {
      const factor = Math.max(1, Math.ceil(Math.max(width, height) / COARSE_PX));
      through("kept", "keep", { factor }, { kept: this.keptParts(mask, factor, matte.min_part_px) });
    }
    if (matte.grow_px) through("grown", "grow", { pixel, grow: matte.grow_px });
    if (matte.feather_px) this.blur(size, matte.feather_px / 2, through);
    return mask;
  }

  // White where a part stays, black where it is too small.
  keptParts(mask, factor, least_px) {
    const { gl, canvas } = this;
    const [width, height] = [Math.ceil(canvas.width / factor), Math.ceil(canvas.height / factor)];
    const coarse = this.target("coarse", width, height);
    this.pass("coarse").run(coarse, [width, height], { mask }, { pixel: [1 / canvas.width, 1 / canvas.height], factor });
    const cells = new Uint8Array(4 * width * height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, coarse.frame);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, cells);
    partsToKeep(cells, width, height, least_px / factor ** 2);
    this.kept ??= this.texture();
    gl.activeTexture(gl.TEXTURE3);
    gl.bindTexture(gl.TEXTURE_2D, this.kept);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, cells);
    return this.kept;
  }

  blur(/** @type {number[]} */ [width, height], sigma, through) {
    through("across", "blur", { pixel: [1 / width, 0], sigma });
    through("down", "blur", { pixel: [0, 1 / height], sigma });
  }

  // What is behind the subject, out of focus, times how much of it shows.
  blurredBehind(source, mask) {
    const size = [this.canvas.width, this.canvas.height].map((side) => Math.max(1, Math.floor(side / BLUR_GRID)));
    const [width, height] = size;
    let made = this.target("behind", width, height);
    this.pass("behind").run(made, size, { source, mask }, {});
    this.blur(size, BLUR_PX / 2 / BLUR_GRID, (name, pass, numbers) => {
      const next = this.target(`behind-${name}`, width, height);
      this.pass(pass).run(next, size, { mask: made.texture }, numbers);
      made = next;
    });
    return made.texture;
  }

  // `source` or `mask` may be null: there is none. `other` is the mask of another result, left of the wipe.
  draw(source, mask, other = null) {
    const { settings, canvas } = this;
    const alpha = mask ? this.matted(mask) : this.blank;
    const theirs = other ? this.matted(other, "other-") : this.blank;
    const view = mask ? (source ? settings.view : 1) : 0;
    const blurred = source && view === 2 && settings.backing === 3 ? this.blurredBehind(source, alpha) : this.blank;
    const aspect = canvas.width / canvas.height / this.pictureAspect; // as CSS's object-fit: cover
    this.pass("show").run(
      null,
      [canvas.width, canvas.height],
      { source: source ?? this.blank, mask: alpha, other: theirs, picture: this.picture, behind: blurred },
      {
        cover: [Math.min(1, aspect), Math.min(1, 1 / aspect)],
        size: [canvas.width, canvas.height],
        wipe: mask && (source || other) ? settings.wipe : 0,
        line: settings.line,
        colour: settings.colour,
      },
      { view, backing: settings.backing, despill: DESPILLS.indexOf(settings.matte.despill), against: Number(Boolean(other)) },
    );
  }
}
