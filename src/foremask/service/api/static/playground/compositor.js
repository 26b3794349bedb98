// Draws one frame from the source's and the mask's textures: the only home of WebGL.
export const VIEWS = ["source", "mask", "overlay", "cutout"];

const VERTEX = `#version 300 es
out vec2 at;
void main() {
  at = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(at * 2.0 - 1.0, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D source, mask, picture;
uniform int view, backing;
uniform float wipe;
uniform vec3 colour;
uniform vec2 size, cover;
in vec2 at;
out vec4 shown;
void main() {
  vec2 place = vec2(at.x, 1.0 - at.y);
  vec3 below = texture(source, place).rgb;
  float alpha = texture(mask, place).r;
  vec3 seen = below;
  if (view == 1) seen = vec3(alpha);
  if (view == 2) seen = mix(below, vec3(1.0, 0.16, 0.24), 0.55 * alpha);
  if (view == 3) {
    vec2 cell = floor(at * size / 16.0);
    vec3 behind = vec3(mod(cell.x + cell.y, 2.0) < 1.0 ? 0.36 : 0.5);
    if (backing == 1) behind = colour;
    if (backing == 2) behind = texture(picture, (place - 0.5) * cover + 0.5).rgb;
    seen = mix(behind, below, alpha);
  }
  shown = vec4(at.x < wipe ? below : seen, 1.0);
}`;

const UNITS = { source: 0, mask: 1, picture: 2 };

export class Compositor {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser has no WebGL, which the stage draws with.");
    this.canvas = canvas;
    this.gl = gl;
    this.settings = { view: 1, backing: 0, wipe: 0.5, colour: [0.12, 0.48, 0.3] };
    this.pictureAspect = 1;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    const names = ["source", "mask", "picture", "view", "backing", "wipe", "colour", "size", "cover"];
    this.places = Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)]));
    for (const [name, unit] of Object.entries(UNITS)) gl.uniform1i(this.places[name], unit);
    this.blank = this.texture();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([0, 0, 0, 255]));
    this.picture = this.blank;
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

  setPicture(bitmap) {
    if (this.picture === this.blank) this.picture = this.texture();
    this.load(this.picture, bitmap);
    this.pictureAspect = bitmap.width / bitmap.height;
  }

  setSize(width, height) {
    const most = this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
    const scale = Math.min(1, most / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
  }

  // `source` or `mask` may be null: there is none.
  draw(source, mask) {
    const { gl, places, settings, canvas } = this;
    const bound = { source: source ?? this.blank, mask: mask ?? this.blank, picture: this.picture };
    for (const [name, unit] of Object.entries(UNITS)) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, bound[name]);
    }
    const aspect = canvas.width / canvas.height / this.pictureAspect; // as CSS's object-fit: cover
    gl.uniform2f(places.cover, Math.min(1, aspect), Math.min(1, 1 / aspect));
    gl.uniform2f(places.size, canvas.width, canvas.height);
    gl.uniform1i(places.view, mask ? (source ? settings.view : 1) : 0);
    gl.uniform1i(places.backing, settings.backing);
    gl.uniform1f(places.wipe, mask && source ? settings.wipe : 0);
    gl.uniform3fv(places.colour, settings.colour);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
