/** Types of installation.js for the tests; the scripts themselves run without a build. */
export interface InstallOptions {
  readonly prefix: string;
  readonly node: string;
  readonly destdir: string;
}
export interface Layout {
  readonly home: string;
  readonly bin: string;
  /** Of the daemon. */
  readonly sbin: string;
  readonly workers: string;
  readonly units: string;
  readonly sysusers: string;
  readonly tmpfiles: string;
  readonly pkgconfig: string;
  readonly man: string;
  readonly completions: Readonly<Record<'bash' | 'zsh' | 'fish', string>>;
  readonly config: string;
  readonly workerConfigs: string;
  readonly manifest: string;
}
export function optionsFrom(args: readonly string[], environment: Readonly<Record<string, string>>): InstallOptions;
export function layoutOf(prefix: string): Layout;
export function fill(template: string, values: Readonly<Record<string, string>>): string;
export function withoutNotify(unit: string): string;
export function withShebang(content: Buffer, node: string): Buffer;
