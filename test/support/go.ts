/** Builds a Go worker against the code that protoc makes of our .proto, with the packages of the distribution. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from './yggd.js';

const run = promisify(execFile);
/** Where Debian puts the sources of Go's libraries. */
const SHARED = '/usr/share/gocode';

const PROGRAMS = [
  ['go', 'version'],
  ['protoc', '--version'],
  ['protoc-gen-go', '--version'],
  ['protoc-gen-go-grpc', '--version'],
] as const;
const LIBRARIES = ['google.golang.org/grpc', 'google.golang.org/protobuf', 'github.com/google/uuid'];

/** For `test(name, { skip: goMissing }, …)`: why no Go worker can be built here, or false. */
export const goMissing: string | false =
  PROGRAMS.every(([program, flag]) => spawnSync(program, [flag]).error === undefined) &&
  LIBRARIES.every((library) => existsSync(join(SHARED, 'src', library)))
    ? false
    : 'needs Go: apt-get install golang-go protobuf-compiler protoc-gen-go-1-5 protoc-gen-go-grpc golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev golang-github-google-uuid-dev';

/** Compiles `source`, which imports `example.org/worker/pb`; the path of the program, in `directory`. */
export async function buildGoWorker(directory: string, source: string): Promise<string> {
  const main = join(directory, 'src/example.org/worker');
  const pb = join(main, 'pb');
  await mkdir(pb, { recursive: true });
  await writeFile(join(main, 'main.go'), source);
  const options = 'paths=source_relative,Myggdrasil.proto=example.org/worker/pb';
  const outputs = [`--go_out=${options}:${pb}`, `--go-grpc_out=${options}:${pb}`];
  await run('protoc', [`--proto_path=${join(ROOT, 'protocol')}`, ...outputs, 'yggdrasil.proto']);
  const program = join(directory, 'go-echo-worker');
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: `${directory}:${SHARED}`, GOFLAGS: '', CGO_ENABLED: '0' };
  await run('go', ['build', '-o', program, 'example.org/worker'], { env });
  return program;
}
