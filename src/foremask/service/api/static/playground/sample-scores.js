// The first screen's clips, and their masks' scores; a test compares them.
export const SAMPLES = [
  { name: "person", label: "Person", fps: 8, frames: 16, iou: 0.8746, mad: 0.00928 },
  { name: "animal", label: "Animal", fps: 8, frames: 16, iou: 0.8748, mad: 0.02305 },
  { name: "thing", label: "Thing", fps: 8, frames: 16, iou: 0.8588, mad: 0.01639 },
];
