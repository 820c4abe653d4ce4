// What programs written for ZeroBuffer 1.x do. Nothing here knows of version 2.
//
//   v1 controller CHANNEL     answers each picture with its negative; the client's metadata says how large pictures are
//   v1 camera CHANNEL         asks three times
//   v1 overlay BUFFER         reads pictures and draws a frame around each, where it lies
//   v1 source BUFFER          writes three pictures

using V1Sample;

switch (args)
{
    case ["controller", var channel]:
        Controller.Serve(channel);
        return 0;
    case ["camera", var channel]:
        Controller.Ask(channel);
        return 0;
    case ["overlay", var buffer]:
        Overlay.Draw(buffer);
        return 0;
    case ["source", var buffer]:
        Overlay.Write(buffer);
        return 0;
    default:
        Console.Error.WriteLine("usage: v1 controller|camera CHANNEL, v1 overlay|source BUFFER");
        return 2;
}
