// Written by benchmarks/quality/samples.py: the first screen's clips, and their masks' scores.
export const SAMPLES = [
  { name: "person", label: "Person", fps: 24, frames: 48, iou: 0.9621, mad: 0.00279 },
  { name: "animal", label: "Animal", fps: 24, frames: 48, iou: 0.9741, mad: 0.00373 },
  { name: "thing", label: "Thing", fps: 24, frames: 48, iou: 0.9915, mad: 0.00148 },
];
