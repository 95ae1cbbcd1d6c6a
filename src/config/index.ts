export {
  checkCredentials,
  isSameCredentials,
  type CredentialSettings,
  type Credentials,
  type CredentialsResult,
} from './credentials.js';
export { resolveClientId, type ClientIdOptions } from './client-id.js';
export { diffSettings, type SettingsDiff } from './diff.js';
export { renderExample } from './example.js';
export { daemonCommand, helpText } from './flags.js';
export { explainSetting, type Explanation } from './explain.js';
export { loadSettings, type LoadOptions, type LoadResult, type Origin, type Origins, type Settings } from './load.js';
export { renderOriginalSettings } from './original.js';
export type { Environment, Surroundings } from './place.js';
export { describeProblem, nearestName, problemsError, type Problem } from './problem.js';
export { Secret } from './secret.js';
export { shownValue } from './shown.js';
export { propertyOf, SETTING_NAMES, settingOf, variableOf, type SettingName } from './settings.js';
export { parseTags, type TagsResult } from './tags.js';
export { formatDuration, formatSize, parseDuration, parseSize } from './units.js';
export {
  loadWorkerSettings,
  type WorkerSettings,
  type WorkerSettingsOptions,
  type WorkerSettingsResult,
} from './worker-settings.js';
export { CredentialWatch, type CredentialWatchOptions } from './credential-watch.js';
