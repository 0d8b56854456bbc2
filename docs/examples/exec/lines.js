#!/usr/bin/node
// Appends a line for each value to a file: time, name, labels, value. Digits come as text: JSON.parse rounds above 2^53.
const fs = require('fs');
const readline = require('readline');

const say = (words) => process.stdout.write(JSON.stringify(words) + '\n');
let file;

function write(batch) {
  const lines = [];
  for (const kind of batch.kinds) {
    for (const row of kind.rows) {
      row.values.forEach((value, place) => {
        if (value === null) return;
        const { name, labels } = kind.columns[place];
        const own = Object.fromEntries(kind.keys.map((key, index) => [key, row.labels[index]]));
        lines.push(JSON.stringify([batch.time[0], name, { ...own, ...labels }, value]) + '\n');
      });
    }
  }
  fs.writeSync(file, lines.join(''));
  say({ batch: batch.batch, ok: true });
}

say({ ebpf_process: [1], format: 'rows', integers: 'text', window: 4 });
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line);
  if (message.refused) process.exit(78);
  if (message.start) file = fs.openSync(message.options.file, 'a');
  else if (message.batch) write(message);
});
