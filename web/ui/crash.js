// The page of one crash: all but the times and the buttons comes from the
// collector.

import { command } from "./command.js";
import { stamps } from "./stamps.js";

const download = document.getElementById("download");
if (download) download.replaceChildren(command(download.dataset.command, "bring the core here"));
stamps();
