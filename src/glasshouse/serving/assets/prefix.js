// NiceGUI's prefix is relative to the page; the address of a socket has to be absolute.
const createAppAt = createApp;
createApp = (elements, options) => {
  const root = new URL(`${options.prefix}/`, location.href).pathname;
  return createAppAt(elements, { ...options, prefix: root.replace(/\/$/, "") });
};
