// The address of what is shown: #task/document, and behind a ? the filters, by their names rather than numbers, so that
// a link means the same on a site that was built again. A page opened from file:// has no other part to keep them in.
// Which filters there are, `kind` says (explorer.js).
"use strict";

function addressOf(name) {
  const given = new URLSearchParams();
  for (const filter of kind.filters) {
    const { value } = form[filter];
    if (value !== form[filter].options[0].value)
      given.set(filter, kind.named[filter] ? awares.index[kind.named[filter]][Number(value)] : value);
  }
  const query = String(given);
  return `#${escaped(name)}${query && `?${query}`}`;
}

// Sets the filters as the address says; what it does not name, or names but is not there, as they are at the beginning.
// Returns the document that it names.
function readAddress() {
  const [name, query] = splitAt(location.hash.slice(1), "?");
  const given = new URLSearchParams(query);
  for (const filter of kind.filters) {
    const text = given.get(filter);
    const value = kind.named[filter] && text !== null ? String(awares.index[kind.named[filter]].indexOf(text)) : text;
    const options = [...form[filter].options];
    form[filter].value = (options.find((option) => option.value === value) ?? options[0]).value;
  }
  return unescaped(name);
}

// Rows of curated sets may be called anything; an address ends at the first of these signs.
const escaped = (name) => encodeURI(name).replaceAll("?", "%3F").replaceAll("#", "%23");

function unescaped(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // written by hand
  }
}

function splitAt(text, sign) {
  const at = text.indexOf(sign);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

// `isStep`: a new entry for the browser's back button; leafing through makes none.
function setAddress(name, isStep) {
  const address = addressOf(name);
  if (address === location.hash) return;
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
