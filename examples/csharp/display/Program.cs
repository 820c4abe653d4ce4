// The last of three programs in three languages: `display IN PICTURES` checks every byte of so many pictures. It prints how many of them it
// looked at in the camera's own buffer, how old the median picture was when it came, and how many came a second.
//
// Before it come examples/cpp/camera.cpp and examples/python/enhance.py, which are started after it.

using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using ZeroBuffer;

const int Width = 1920;
const int Size = Width * 1080 * 3 / 2;

if (args is not [var name, var count])
{
    Console.Error.WriteLine("usage: display IN PICTURES");
    return 2;
}
int pictures = int.Parse(count, CultureInfo.InvariantCulture);

// What the camera has looked at, inverted. It turned to the right by a pixel per picture.
byte[] scene = new byte[Size + pictures];
for (int at = 0; at < scene.Length; at++)
{
    scene[at] = (byte)~((at % Width) + (at / Width));
}

using var reader = new Reader(name, new BufferConfig(4096, 32 * 1024 * 1024), allowPayloadSharing: true);
if (!reader.IsWriterConnected(30_000))
{
    throw new TimeoutException("no pictures came");
}
var ages = new List<TimeSpan>();
int shared = 0;
long first = 0;
long last = 0;
foreach (Frame picture in reader.Frames())
{
    last = Stopwatch.GetTimestamp();
    first = ages.Count == 0 ? last : first;
    ages.Add(Check(picture.Data, ages.Count, last));
    shared += picture.IsShared ? 1 : 0;
}
if (ages.Count != pictures)
{
    throw new InvalidDataException($"{ages.Count} of {pictures} pictures came");
}
ages.Sort();
double age = ages[ages.Count / 2].TotalMilliseconds;
double rate = (pictures - 1) / Stopwatch.GetElapsedTime(first, last).TotalSeconds;
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{shared} shared, {age:F2} ms old, {rate:F0} a second"));
return 0;

// Compares every byte with what it should be. Returns the picture's age.
TimeSpan Check(ReadOnlySpan<byte> picture, int number, long now)
{
    const int Time = sizeof(long);
    if (picture.Length != Size
        || !picture[Time..^Time].SequenceEqual(scene.AsSpan(number, Size)[Time..^Time])
        || !picture[..Time].SequenceEqual(picture[^Time..]))
    {
        throw new InvalidDataException($"picture {number + 1} is not what the camera saw, inverted");
    }
    TimeSpan age = Stopwatch.GetElapsedTime(~MemoryMarshal.Read<long>(picture), now);
    return age >= TimeSpan.Zero ? age : throw new InvalidDataException($"picture {number + 1} was made in the future");
}
