// The page of groups of crashes: all but the times comes from the collector.

import { stamps } from "./stamps.js";

stamps();
