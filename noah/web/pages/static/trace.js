// W3C Trace Context: a trace that begins with what a person clicks. A gateway that sends traces goes on with it.

const hex = (bytes) =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const traceparent = () => `00-${hex(16)}-${hex(8)}-01`;
