// What this browser remembers of jobs: a thumbnail for the list, the marks, and for this tab the URL of the clip.
const KEY = "foremask-seen";
const MARKS_KEY = "foremask-marks";
const MOST = 30;

const read = (store, key = KEY) => {
  try {
    return JSON.parse(store.getItem(key)) ?? {};
  } catch {
    return {};
  }
};

function write(store, kept, key = KEY) {
  try {
    store.setItem(key, JSON.stringify(kept));
  } catch {
    store.removeItem(key); // it is full, and everything here can be done without
  }
}

const add = (store, id, value, key = KEY) =>
  write(store, Object.fromEntries([[id, value], ...Object.entries(read(store, key)).filter(([other]) => other !== id)].slice(0, MOST)), key);

export const thumbnail = (id) => read(localStorage)[id];
export const keepThumbnail = (id, picture) => add(localStorage, id, picture);

export const marksOf = (id) => read(localStorage, MARKS_KEY)[id];
export const keepMarks = (id, marks) => add(localStorage, id, marks, MARKS_KEY);

// A clip's URL may hold a secret: it goes with the tab.
export const clipUrl = (id) => read(sessionStorage)[id];
export const keepClipUrl = (id, url) => add(sessionStorage, id, url);

function drop(store, id, key = KEY) {
  const kept = read(store, key);
  delete kept[id];
  write(store, kept, key);
}

export function forget(id) {
  drop(localStorage, id);
  drop(localStorage, id, MARKS_KEY);
  drop(sessionStorage, id);
}

export const forgetAll = () => {
  for (const store of [localStorage, sessionStorage]) store.removeItem(KEY);
  localStorage.removeItem(MARKS_KEY);
};
