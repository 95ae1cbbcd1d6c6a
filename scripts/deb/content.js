/** Everything that the package for Debian puts into a machine, laid out below a directory. */
import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { layoutOf } from '../installation.js';
import {
  isPython,
  minimalPackage,
  placeBundles,
  placeManual,
  placer,
  placeSystem,
  placeWorkers,
} from '../placement.js';
import { fetchNativeModules, fetchNode, PLAIN_FILES } from './carried.js';
import { bundledLicences, licenceOf } from './licences.js';
import { changelog, copyright, PACKAGE } from './papers.js';

const packed = (text) => gzipSync(text, { level: 9 });

/** Where it lies on a Debian machine. */
export function debianLayout() {
  const usual = layoutOf('/usr');
  const completions = { ...usual.completions, zsh: '/usr/share/zsh/vendor-completions' };
  return { ...usual, sbin: '/usr/sbin', node: join(usual.home, 'bin/node'), completions };
}

/**
 * Fills `tree`. `work` is a directory for what is unpacked on the way; `manifest` is package.json, with the version
 * that the package is to have; `papers` are version, packager and date for its changelog.
 */
export async function fillTree(root, tree, { arch, work, manifest, papers }) {
  const layout = debianLayout();
  const place = placer(tree, { directories: [] });
  const doc = join('/usr/share/doc', PACKAGE);
  const node = await fetchNode(root, arch, work);
  const natives = await fetchNativeModules(root, arch, work);

  await place.program(join(layout.home, 'package.json'), minimalPackage(manifest));
  await placeBundles(root, place, layout, layout.node);
  await place.program(layout.node, await readFile(node.binary), 0o755);
  await placeModules(root, place, layout, natives);
  // With these postinst makes the code cache, of the worker too.
  await place.program(
    join(layout.home, 'dist/program-loader.js'),
    await readFile(join(root, 'dist/program-loader.js')),
  );
  await place.program(join(layout.home, 'scripts/code-cache.js'), await readFile(join(root, 'scripts/code-cache.js')));
  await place.link(join(layout.home, 'dist/workers'), '../../../libexec/yggdrasil');

  // The Python ones need packages that many machines lack, and would be started and fail there for ever.
  await placeWorkers(root, place, layout.workers, layout.node, (_, content) => !isPython(content));
  await placeWorkers(root, place, join(doc, 'examples'), layout.node, (_, content) => isPython(content));
  const values = { PREFIX: '/usr', SBIN: layout.sbin, VERSION: manifest.version };
  await placeSystem(root, place, layout, values, true);
  await placeManual(root, place, layout, (name, content) => [`${name}.gz`, packed(content)]);

  await place.folder(layout.workerConfigs);
  await place.program(layout.config, await readFile(join(root, 'config.example.toml')));
  await placeDocuments(root, place, doc, node);
  const carried = [...(await bundledLicences(root)), ...(await besideLicences(root, node))];
  await place.program(join(doc, 'copyright'), copyright({ license: manifest.license, carried }));
  await place.program(join(doc, 'changelog.Debian.gz'), packed(changelog(papers)));
  await place.program(
    join('/usr/share/lintian/overrides', PACKAGE),
    await readFile(join(root, 'scripts/deb/lintian-overrides')),
  );
}

async function placeModules(root, place, layout, natives) {
  const modules = join(layout.home, 'node_modules');
  for (const [name, files] of Object.entries(PLAIN_FILES)) {
    for (const file of files)
      await place.program(join(modules, name, file), await readFile(join(root, 'node_modules', name, file)));
  }
  for (const { name, file, path } of natives) await place.program(join(modules, name, file), await readFile(path));
}

async function placeDocuments(root, place, doc, node) {
  const copy = async (from, to) => place.program(join(doc, to), await readFile(from));
  await copy(join(root, 'scripts/deb/README.Debian'), 'README.Debian');
  await copy(join(root, 'workers/command/commands.example.toml'), 'examples/commands.example.toml');
  await place.program(join(doc, 'changelog.gz'), packed(await readFile(join(root, 'CHANGELOG.md'))));
  await place.program(join(doc, 'node-licence.txt.gz'), packed(await readFile(node.licence)));
  for (const folder of ['', 'guides', 'reference', 'adr']) {
    const names = await readdir(join(root, 'docs', folder)).catch(() => []);
    for (const name of names.filter((each) => each.endsWith('.md')).sort())
      await copy(join(root, 'docs', folder, name), join(folder, name));
  }
}

/** Of what lies beside the bundles. */
async function besideLicences(root, node) {
  const modules = await Promise.all(['lmdb', 'koffi'].map((name) => licenceOf(join(root, 'node_modules', name))));
  const text = await readFile(node.licence, 'utf8');
  // Its own licence stands before those of what is inside it.
  const own = /"""([^]*?)"""/u.exec(text)?.[1] ?? text.slice(0, 2000);
  return [
    ...modules.map((each) => ({ ...each, where: `/usr/lib/yggdrasil/node_modules/*${each.name}*` })),
    {
      name: 'Node.js',
      version: node.version,
      licence: 'Node',
      text: `${own}\n\nThose of what is inside it stand in /usr/share/doc/${PACKAGE}/node-licence.txt.gz.`,
      where: '/usr/lib/yggdrasil/bin/node',
    },
  ];
}

/** DEBIAN/: control file, what may be edited, digests, and the scripts of dpkg. */
export async function fillControl(root, tree, { control, files }) {
  const directory = join(tree, 'DEBIAN');
  await mkdir(directory, { mode: 0o755 });
  const write = async (name, text, mode = 0o644) => {
    await writeFile(join(directory, name), text);
    await chmod(join(directory, name), mode);
  };
  await write('control', control);
  await write('conffiles', `${debianLayout().config}\n`);
  await write('md5sums', files.map(({ path, md5 }) => `${md5}  ${path}\n`).join(''));
  for (const name of ['postinst', 'prerm', 'postrm']) {
    await rm(join(directory, name), { force: true });
    await cp(join(root, 'scripts/deb/maintainer', name), join(directory, name));
    await chmod(join(directory, name), 0o755);
  }
}
