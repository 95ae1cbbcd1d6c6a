/** What both ends of the second limit allow in one call. */
export const UNLIMITED = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
};
