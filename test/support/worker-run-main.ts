/** A program with nothing but `worker run`, for tests of its command line. */
import { Command } from 'commander';
import { addWorkerCommand } from '../../src/cli/worker-run.js';

const program = new Command();
addWorkerCommand(program);
await program.parseAsync();
