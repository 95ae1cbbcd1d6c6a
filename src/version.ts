/**
 * The version of this package, as package.json has it. The bundler writes it in; from the sources it is read.
 */
import packageJson from '../package.json' with { type: 'json' };

export const VERSION: string = packageJson.version;
