// A backend of the StatsD server: what it counted since its last flush, appended to a file as one line of JSON.
const { appendFileSync } = require('fs');

exports.init = (startupTime, config, events) => {
  events.on('flush', (time, { counters }) => appendFileSync(config.flushFile, JSON.stringify(counters) + '\n'));
  return true;
};
