/** The worker SDK's contract, for each transport against the agent that speaks it. */
import { realContractAgent, streamContractAgent, unaryContractAgent } from '../support/contract-agent.js';
import { workerContract } from './worker-contract.js';

workerContract('unary', 'unary', unaryContractAgent);
workerContract('unary, since this agent has no stream', 'auto', unaryContractAgent);
workerContract('on the stream', 'auto', streamContractAgent);
for (const transport of ['stream', 'unary'] as const) {
  workerContract(`${transport}, with the real dispatcher`, transport, realContractAgent, { isReal: true });
}
