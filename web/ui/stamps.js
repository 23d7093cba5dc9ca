// Times that the collector wrote into a page, shown in the zone people chose.

import { onZone, utc } from "./dom.js";
import { dateTime } from "./units.js";

/** stamps shows every time element of the page, now and when the zone changes. */
export function stamps() {
  const draw = () => {
    for (const t of document.querySelectorAll("time[datetime]")) {
      const at = Date.parse(t.dateTime);
      if (!Number.isNaN(at)) t.textContent = dateTime(at, utc());
    }
  };
  onZone(draw);
  draw();
}
