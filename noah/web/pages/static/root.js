// Where the site begins: a reverse proxy may serve it under a path of its own.

const ROOT = new URL("..", import.meta.url);

/** The address of *path* from the site's root: "api/v1/events", without a slash before it. */
export const at = (path) => new URL(path, ROOT).href;
