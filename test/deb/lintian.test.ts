/** lintian on both packages as they ship. What it may not say is only in scripts/deb/lintian-overrides, with reasons. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { buildDeb, debianTool, packagingMissing } from '../support/debian.js';
import { tempDir } from '../support/temp.js';

const lintianMissing = spawnSync('lintian', ['--version']).error === undefined ? false : 'lintian is not installed';

for (const arch of ['amd64', 'arm64']) {
  test(
    `lintian finds no error and no warning in the package for ${arch}`,
    { skip: packagingMissing || lintianMissing },
    async () => {
      await using dir = await tempDir();
      const deb = await buildDeb({ out: dir.path, arch });
      const said = await debianTool('lintian', '--allow-root', '--tag-display-limit', '0', deb);
      assert.equal(said, '');
    },
  );
}
