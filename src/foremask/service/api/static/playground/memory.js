// What this browser remembers of jobs: a thumbnail for the list, and for this tab the URL of the clip.
const KEY = "foremask-seen";
const MOST = 30;

const read = (store) => {
  try {
    return JSON.parse(store.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
};

function write(store, kept) {
  try {
    store.setItem(KEY, JSON.stringify(kept));
  } catch {
    store.removeItem(KEY); // it is full, and everything here can be done without
  }
}

const add = (store, id, value) =>
  write(store, Object.fromEntries([[id, value], ...Object.entries(read(store)).filter(([other]) => other !== id)].slice(0, MOST)));

export const thumbnail = (id) => read(localStorage)[id];
export const keepThumbnail = (id, picture) => add(localStorage, id, picture);

// A clip's URL may hold a secret: it goes with the tab.
export const clipUrl = (id) => read(sessionStorage)[id];
export const keepClipUrl = (id, url) => add(sessionStorage, id, url);

export const forgetAll = () => {
  for (const store of [localStorage, sessionStorage]) store.removeItem(KEY);
};
