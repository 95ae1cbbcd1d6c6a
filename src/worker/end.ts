/** How a worker program ends when `serve` rejects: one line for the agent's log instead of a stack, and an exit code. */
import { AgentError, errorText } from '../errors.js';

/** For `serve(…).catch(endWithError)`. Exit codes follow sysexits(3), as those of the agent. */
export function endWithError(error: unknown): void {
  process.stderr.write(`ERROR worker.failed: ${errorText(error)}\n`);
  process.exitCode = error instanceof AgentError ? error.exitCode : 70;
}
